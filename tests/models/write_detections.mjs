// Writes, as detections.json here has them, the detections with a score of 0.1 or more that TensorFlow.js gives for pictures, to compare ours with:
//   npm install --no-save @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-converter@4.22.0 @tensorflow/tfjs-backend-cpu@4.22.0
//   node write_detections.mjs FOLDER-OF-CENTERNET NAME.rgb ... > detections.json
// where NAME.rgb holds the 512x512x3 bytes of a picture: what framed() in test_detector.py gives for NAME.
import fs from "node:fs";
import path from "node:path";
import "@tensorflow/tfjs-backend-cpu";
import { loadGraphModel } from "@tensorflow/tfjs-converter";
import * as tf from "@tensorflow/tfjs-core";

const [folder, ...pictures] = process.argv.slice(2);
const { weightsManifest, ...model } = JSON.parse(fs.readFileSync(path.join(folder, "centernet.json")));
const weightData = new Uint8Array(fs.readFileSync(path.join(folder, "centernet.bin"))).buffer;
await tf.setBackend("cpu");
const network = await loadGraphModel({
  load: async () => ({ ...model, weightSpecs: weightsManifest[0].weights, weightData }),
});
const found = {};
for (const picture of pictures) {
  const images = tf.tensor(Float32Array.from(fs.readFileSync(picture)), [1, 512, 512, 3]);
  const [rows] = network.execute(images, "tower_0/detections").arraySync();
  found[path.basename(picture, ".rgb")] = rows
    .filter((row) => row[4] >= 0.1)
    .map(([xmin, ymin, xmax, ymax, score, index]) => ({
      index,
      score: Number(score.toFixed(6)),
      box: [ymin, xmin, ymax, xmax].map((pixels) => Number(pixels.toFixed(3))),
    }));
}
console.log(JSON.stringify(found, null, 1).replace(/\n {3,}|\n {2}(?=\})/g, " "));
