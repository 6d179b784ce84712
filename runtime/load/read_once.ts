/**
 * A checkpoint that several look at, one after the other: its texts and the headers of its weights are read
 * once.
 *
 * @module
 */
import { readConfig } from "./config.ts";
import type { Files } from "./files.ts";
import { type Checkpoint, openCheckpoint } from "./safetensors.ts";

/** Files whose weights are open until it is disposed of. */
export interface OpenedFiles extends Disposable {
  readonly files: Files;
}

/**
 * Opens the weights of `files`; each text is read when it is asked for, and kept. Throws as `readConfig`
 * does: where there is no config, the files are not a model, whatever else is missing.
 */
export async function readOnce(files: Files): Promise<OpenedFiles> {
  const texts = new Map<string, Promise<string | undefined>>();
  const text = (name: string) => {
    let known = texts.get(name);
    if (!known) texts.set(name, known = files.text(name));
    return known;
  };
  await readConfig({ ...files, label: files.label, text });
  const checkpoint = await openCheckpoint(files);
  // Those who open it close it as well, and the next one goes on.
  const stays = () => {};
  const { label, tensors } = checkpoint;
  const shared: Checkpoint = {
    ...{ label, tensors },
    read: (name, bytes) => checkpoint.read(name, bytes),
    checkUnchanged: () => checkpoint.checkUnchanged(),
    close: stays,
    [Symbol.dispose]: stays,
  };
  return {
    files: {
      label: files.label,
      list: () => files.list(),
      open: (name) => files.open(name),
      openWeights: () => Promise.resolve(shared),
      text,
    },
    [Symbol.dispose]: () => checkpoint.close(),
  };
}
