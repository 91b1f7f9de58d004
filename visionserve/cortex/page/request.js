const API = location.origin + location.pathname;
let key = "";

const element = (id) => document.getElementById(id);

/** An address of this API's, which is served with or without a slash at its end. */
function below(name) {
  return API.replace(/\/?$/, "/") + name;
}

function ask(address, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("x-api-key", key);
  return fetch(address, { cache: "no-store", ...options, headers });
}

/** What went wrong: a title of a few words, a sentence, and whether it may go better the next time. */
class Problem {
  constructor(title, sentence, passes = false) {
    Object.assign(this, { title, sentence, passes });
  }
}

/** For an answer that is none. `body`: the Blob that was sent. */
async function problemOf(response, body) {
  const { status } = response;
  const said = await sentenceOf(response);
  if (status === 401) {
    return new Problem("A key is needed (401)", key ? "The API does not know this key." : "Enter it in the field above.");
  }
  if (status === 413) {
    return new Problem("Too large (413)", `${said} This one has ${sizeInWords(body.size)}.`);
  }
  if (status === 429 || status === 503) {
    const after = Number(response.headers.get("retry-after"));
    const when = after > 0 ? ` It asks for ${after} s of patience.` : "";
    return new Problem(`Not now (${status})`, said + when, true);
  }
  if (status >= 500) {
    const name = document.title;
    const where = status === 500 ? ` Its log says more: cortex logs ${name}` : "";
    return new Problem(`Failed (${status})`, said + where, true);
  }
  return new Problem(`Refused (${status})`, said);
}

/** For a connection that broke; whether the API is there tells which end it was. */
async function problemOfConnection(body) {
  const alive = await fetch(below("healthz"), { cache: "no-store" }).then(() => true, () => false);
  if (!alive) {
    return new Problem("No answer", "The API cannot be reached: is it still deployed, and the network up?", true);
  }
  const sentence = `The API closed the connection before it had all of the ${sizeInWords(body.size)}; it may take less.`;
  return new Problem("Cut off", sentence, true);
}

/** The sentence of an API's error; an error page of something in between is not read out. */
async function sentenceOf(response) {
  const fallback = response.statusText ? `The answer was “${response.statusText}”.` : "The answer gave no reason.";
  const type = response.headers.get("content-type") ?? "";
  const text = await response.text();
  if (type.startsWith("text/plain")) return sentence(text) || fallback;
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? sentence(error) : fallback;
  } catch {
    return fallback;
  }
}

function sentence(text) {
  const trimmed = text.trim().slice(0, 2000);
  return trimmed && trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}

function sizeInWords(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function timeInWords(seconds) {
  if (seconds === null) return "–";
  if (seconds < 0.00995) return `${(seconds * 1e3).toFixed(1)} ms`;
  return seconds < 0.9995 ? `${(seconds * 1e3).toFixed(0)} ms` : `${seconds.toFixed(1)} s`;
}
