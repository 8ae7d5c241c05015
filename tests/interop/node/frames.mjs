// Cuts and joins frames with the programs of others: a list of tasks on stdin, a list of answers on stdout.
import { createRequire } from "node:module";
import { joinQRs, splitQRs } from "bbqr";

const { UR, UREncoder, URDecoder } = createRequire(import.meta.url)("@ngraveio/bc-ur");
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));

const tasks = {
  "bbqr.split": (task) => splitQRs(bytes(task.content), task.type, task.options).parts,
  "bbqr.join": (task) => Buffer.from(joinQRs(task.parts).raw).toString("hex"),
  "ur.encode": (task) => {
    const encoder = new UREncoder(new UR(Buffer.from(task.cbor, "hex"), task.type), task.fragment);
    return Array.from({ length: task.count }, () => encoder.nextPart().toUpperCase());
  },
  "ur.decode": (task) => {
    const decoder = new URDecoder();
    for (const part of task.parts) {
      decoder.receivePart(part);
    }
    return decoder.isSuccess() ? [decoder.resultUR().type, decoder.resultUR().cbor.toString("hex")] : null;
  },
};

let text = "";
for await (const chunk of process.stdin) {
  text += chunk;
}
process.stdout.write(JSON.stringify(JSON.parse(text).map((task) => tasks[task.do](task))));
