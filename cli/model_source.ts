/**
 * The model as people name it: a folder, a file in it, a name on the hub, or the address of its page there.
 *
 * @module
 */
import { isModelName } from "../runtime/load/hub_cache.ts";

/** The page of a model, of a revision (tree) or of a file (blob, resolve) of it. */
const PAGE =
  /^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)\/([\w.-]+\/[\w.-]+?)(?:\/(?:tree|blob|resolve)\/([\w.-]+)(?:\/([^?#]*))?)?(:[\w.-]+)?\/?(?:[?#].*)?$/;

/** The folder, file or name that `openModel` takes. What is none of the known forms stays as it is. */
export function modelSource(typed: string): string {
  const [, name, revision, file, quantization = ""] = PAGE.exec(typed) ?? [];
  if (name !== undefined) {
    const path = file?.endsWith(".gguf") ? `/${file}` : "";
    return `${name}${path}${revision && revision !== "main" ? `@${revision}` : ""}${quantization}`;
  }
  const [, folder] = /^(.*?)[/\\]?(?:config\.json|[^/\\]*\.safetensors(?:\.index\.json)?)$/.exec(typed) ?? [];
  return folder === undefined ? typed : folder || ".";
}

/** Whether a word is a model and no prompt: it has no spaces, and is a page, a name, a path or a folder. */
export async function isModel(word: string): Promise<boolean> {
  if (/\s/.test(word)) return false;
  if (PAGE.test(word) || isModelName(word) || /^(\.{0,2}[/\\]|\.{1,2}$|[A-Za-z]:[/\\])/.test(word)) {
    return true;
  }
  try {
    const { isDirectory } = await Deno.stat(modelSource(word));
    return isDirectory || /\.gguf$/i.test(word);
  } catch {
    return false; // then it is a prompt
  }
}
