const SCORES = "?scores=true";

let asking = new AbortController();
/** Sends what was sent last once more. */
let repeat = null;

/** Sends a Blob and shows what comes back. What is still asked is given up: its answer would be to another photo. */
async function send(body, type, what, query) {
  repeat = () => send(body, type, what, query);
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  showBusy(what);
  const started = performance.now();
  try {
    const response = await ask(API + query, { method: "POST", body, headers: { "content-type": type }, signal });
    if (!response.ok) {
      const problem = await problemOf(response, body);
      if (signal.aborted) return;
      if (response.status === 401) askForKey();
      return showProblem(problem);
    }
    const answer = await answerOf(response);
    const times = timesOf(response, performance.now() - started);
    if (!signal.aborted) showAnswer(answer, times);
  } catch {
    if (signal.aborted) return;
    const problem = await problemOfConnection(body);
    if (!signal.aborted) showProblem(problem);
  }
}

async function answerOf(response) {
  const type = response.headers.get("content-type") ?? "no type";
  if (type.startsWith("application/json")) return response.json();
  if (type.startsWith("text/")) return response.text();
  return `${sizeInWords((await response.blob()).size)} of ${type}`;
}

/** https://www.w3.org/TR/server-timing/ for the server's part. */
function timesOf(response, milliseconds) {
  const inServer = /\btotal;\s*dur=([\d.]+)/.exec(response.headers.get("server-timing") ?? "");
  const whole = timeInWords(milliseconds / 1000);
  return inServer ? `${whole}, ${timeInWords(Number(inServer[1]) / 1000)} of it in the server` : whole;
}

function choose(file) {
  const preview = element("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = `The photo ${file.name}`;
  preview.hidden = false;
  element("photo-note").textContent = `${file.name}, ${sizeInWords(file.size)}`;
  send(file, file.type || "application/octet-stream", file.name, SCORES);
}

function chooseFirst(files) {
  if (files.length) return choose(files[0]);
  showProblem(new Problem("No photo", "That held no file: drop or paste an image itself, not a link to one."));
}

function askForKey() {
  element("key-form").hidden = false;
  element("key").focus();
}

element("preview").addEventListener("error", () => {
  element("preview").hidden = true;
});

element("photo").addEventListener("change", (event) => {
  if (event.target.files.length) choose(event.target.files[0]);
  event.target.value = "";
});

element("sample").addEventListener("click", async () => {
  const response = await ask(below("sample.jpg")).catch(() => null);
  if (response?.ok) return choose(new File([await response.blob()], "sample.jpg", { type: "image/jpeg" }));
  const nothing = new Blob();
  showProblem(response ? await problemOf(response, nothing) : await problemOfConnection(nothing));
});

document.addEventListener("paste", (event) => {
  const { files } = event.clipboardData;
  if (!files.length && event.target.matches?.("input, textarea")) return;
  event.preventDefault();
  chooseFirst(files);
});

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("drop").classList.add("over");
});

document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) element("drop").classList.remove("over");
});

document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  chooseFirst(event.dataTransfer.files);
});

element("again").addEventListener("click", () => repeat?.());

element("json-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = document.body.dataset.predictor === "tensorflow" ? SCORES : "";
  send(new Blob([element("body").value]), "application/json", "this body", query);
});

element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = element("key").value;
  element("key").value = "";
  element("key-form").hidden = true;
  repeat?.();
  follow();
});

element("pause").addEventListener("click", togglePause);
document.addEventListener("visibilitychange", follow);

for (const place of document.querySelectorAll(".here")) place.textContent = API;
element("health").href = below("healthz");
element("metrics").href = below("metrics");
element("json").open = document.body.dataset.predictor !== "tensorflow";
follow();
