const PERIOD_MS = 2000;
const WINDOW_MS = 30_000;

/** Figures of this deployment over time, the newest last; what is older than the window is dropped. */
const seen = [];
let paused = false;
let timer = 0;
let reading = false;
let refused = false;

/** One reading of /metrics. */
function figuresOf(samples, at) {
  const classes = { 2: 0, 4: 0, 5: 0 };
  const buckets = new Map();
  for (const { name, labels, value } of samples) {
    if (name === "visionserve_requests_total") classes[labels.code[0]] += value;
    if (name === "visionserve_request_seconds_bucket") buckets.set(toNumber(labels.le), value);
  }
  return {
    at,
    classes,
    buckets,
    count: total(samples, "visionserve_request_seconds_count") ?? 0,
    seconds: total(samples, "visionserve_request_seconds_sum") ?? 0,
    inFlight: total(samples, "visionserve_requests_in_flight"),
    restarts: total(samples, "visionserve_process_restarts_total"),
    modelServer: total(samples, "visionserve_model_server_up"),
    build: samples.find((sample) => sample.name === "visionserve_build_info")?.labels,
  };
}

/** What happened between two readings. */
function between(first, last) {
  const count = last.count - first.count;
  const buckets = new Map([...last.buckets].map(([bound, value]) => [bound, value - (first.buckets.get(bound) ?? 0)]));
  return {
    rate: last.at > first.at ? (1000 * count) / (last.at - first.at) : null,
    mean: count ? (last.seconds - first.seconds) / count : null,
    p95: quantile(0.95, buckets),
  };
}

function keep(figures) {
  // Counters that went back are those of another deployment.
  if (seen.length && figures.count < seen.at(-1).count) seen.length = 0;
  seen.push(figures);
  while (seen.length > 2 && figures.at - seen[0].at > WINDOW_MS) seen.shift();
}

function showFigures() {
  const last = seen.at(-1);
  const { rate, mean, p95 } = between(seen[0], last);
  const shown = {
    rate: rate === null ? "–" : rate.toFixed(rate < 9.95 ? 1 : 0),
    "in-flight": countInWords(last.inFlight),
    mean: timeInWords(mean),
    p95: timeInWords(p95),
    answered: countInWords(last.classes[2]),
    wrong: countInWords(last.classes[4]),
    failed: countInWords(last.classes[5]),
    restarts: countInWords(last.restarts),
  };
  for (const [id, text] of Object.entries(shown)) element(id).textContent = text;
  if (last.build) {
    element("engine").textContent = last.build.engine === "none" ? "python" : last.build.engine;
    element("version").textContent = last.build.version;
  }
}

function countInWords(count) {
  return count === null ? "–" : count.toLocaleString("en");
}

function showState(text) {
  if (element("figures-state").textContent !== text) element("figures-state").textContent = text;
}

async function readFigures() {
  if (reading) return;
  reading = true;
  try {
    const response = await ask(below("metrics"));
    const text = await response.text();
    if (paused) return;
    if (response.status === 401) {
      // A browser may ask its user for the key at each 401: not every two seconds.
      refused = true;
      element("key-form").hidden = false;
      return showState("Only shown with the key.");
    }
    if (!response.ok) return showState(`No figures here (${response.status}).`);
    keep(figuresOf(parseMetrics(text), performance.now()));
    showFigures();
    const server = seen.at(-1).modelServer === 0 ? " The model server does not answer." : "";
    showState(`Read every ${PERIOD_MS / 1000} s.${server}`);
  } catch {
    showState("The API cannot be reached; these figures are the last that it gave.");
  } finally {
    reading = false;
  }
}

/** Reads now and from then on, unless the person has paused it or looks elsewhere. */
async function follow() {
  refused = false;
  clearTimeout(timer);
  if (paused || document.hidden) return;
  await readFigures();
  clearTimeout(timer);
  if (refused) return;
  timer = setTimeout(follow, PERIOD_MS);
}

function togglePause() {
  paused = !paused;
  element("pause").setAttribute("aria-pressed", String(paused));
  if (paused) showState("Paused.");
  follow();
}
