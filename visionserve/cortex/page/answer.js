const MOST_SHOWN = 100_000;

function showBusy(what) {
  element("answer").setAttribute("aria-busy", "true");
  element("status").textContent = `Asking about ${what} …`;
  clear();
}

function showProblem(problem) {
  clear();
  element("status").textContent = "";
  const title = document.createElement("strong");
  title.textContent = problem.title;
  const text = document.createElement("p");
  text.append(title, ` ${problem.sentence}`);
  element("problem").append(text);
  element("again").hidden = !problem.passes;
  element("answer").setAttribute("aria-busy", "false");
}

/** `answer`: the parsed JSON, or a text that stands for another kind of answer. `times`: where they went, in words. */
function showAnswer(answer, times) {
  clear();
  const rows = labelsOf(answer);
  element("labels").replaceChildren(...rows.map(rowOf));
  element("labels").hidden = !rows.length;
  const text = typeof answer === "string" ? answer : JSON.stringify(answer, null, 2);
  element("raw-text").textContent = text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)} …` : text;
  element("raw").hidden = false;
  element("raw").open = !rows.length;
  const [first] = rows;
  const best = first ? `${nameOf(first.label)}${"probability" in first ? `, ${percent(first.probability)}` : ""}. ` : "";
  element("status").textContent = `${best}Answered in ${times}.`;
  element("answer").setAttribute("aria-busy", "false");
}

function clear() {
  element("problem").replaceChildren();
  element("again").hidden = true;
  element("labels").hidden = true;
  element("raw").hidden = true;
}

/** [{label, probability}] of one image's answer, [{label}] where it came without probabilities, else []. */
function labelsOf(answer) {
  if (!Array.isArray(answer)) return [];
  if (answer.every((entry) => typeof entry === "string")) return answer.map((label) => ({ label }));
  const scored = answer.every((entry) => typeof entry?.label === "string" && Number.isFinite(entry.probability));
  return scored ? answer : [];
}

/** The bar repeats the number beside it, so only eyes get it. */
function rowOf({ label, probability }) {
  const row = document.createElement("li");
  const name = document.createElement("span");
  name.textContent = nameOf(label);
  row.append(name);
  if (probability === undefined) return row;
  const number = document.createElement("span");
  number.textContent = percent(probability);
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.setAttribute("aria-hidden", "true");
  const filled = document.createElement("div");
  filled.style.width = `${100 * Math.min(1, Math.max(0, probability))}%`;
  bar.append(filled);
  row.append(number, bar);
  return row;
}

function nameOf(label) {
  return label.replaceAll("_", " ");
}

function percent(probability) {
  return probability > 0 && probability < 0.0005 ? "< 0.1 %" : `${(100 * probability).toFixed(1)} %`;
}
