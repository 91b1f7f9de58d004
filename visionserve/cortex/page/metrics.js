// Prometheus's text format: https://prometheus.io/docs/instrumenting/exposition_formats/
const SAMPLE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Text -> [{name, labels: {name: value}, value: number}]. */
function parseMetrics(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = SAMPLE.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, label, value] of (found[2] ?? "").matchAll(LABEL)) {
      labels[label] = value.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
    }
    samples.push({ name: found[1], labels, value: toNumber(found[3]) });
  }
  return samples;
}

function toNumber(text) {
  return Number(text.replace(/^([+-]?)Inf$/, "$1Infinity"));
}

/** The sum of all samples of a name; null where there is none. */
function total(samples, name) {
  const values = samples.filter((sample) => sample.name === name).map((sample) => sample.value);
  return values.length ? values.reduce((sum, value) => sum + value, 0) : null;
}

/**
 * As Prometheus's histogram_quantile, linear within a bucket. `buckets`: Map of upper bound -> cumulative count.
 * Gives null for no observations, and the last bound for what lies above it.
 */
function quantile(q, buckets) {
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const rank = q * (sorted.at(-1)?.[1] ?? 0);
  if (!rank) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of sorted) {
    if (count >= rank) {
      return bound === Infinity ? low : low + ((bound - low) * (rank - below)) / (count - below);
    }
    [low, below] = [bound, count];
  }
  return low;
}
