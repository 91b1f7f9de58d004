-- wrk -s post.lua: posts the file named by BODY, as CONTENT_TYPE or JSON, or gets the address when BODY is empty, and
-- prints one line "VISIONSERVE answered seconds refused broken".
-- wrk divides by the whole turn, in which the last batch is still being computed: a slow model's rate comes out too low
-- by up to a batch. The seconds here end with the last answer, as those of bare_engine.py do.
local ffi = require("ffi")
ffi.cdef([[
  typedef struct { long seconds; long nanoseconds; } instant;
  int clock_gettime(int clock, instant *now);
]])
local CLOCK_MONOTONIC = 1
local instant = ffi.new("instant")

local function seconds()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, instant)
  return tonumber(instant.seconds) + tonumber(instant.nanoseconds) / 1e9
end

if os.getenv("BODY") ~= "" then
  local file = assert(io.open(os.getenv("BODY"), "rb"))
  wrk.method = "POST"
  wrk.headers["Content-Type"] = os.getenv("CONTENT_TYPE") or "application/json"
  wrk.body = file:read("*a")
  file:close()
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  answered, started, last = 0, seconds(), seconds()
end

function response(status)
  answered, last = answered + 1, seconds()
end

function done(summary)
  local errors = summary.errors
  local thread = threads[1]
  print(string.format("VISIONSERVE %d %.6f %d %d", thread:get("answered"), thread:get("last") - thread:get("started"),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
