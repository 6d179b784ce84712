/**
 * Writes a checkpoint into this folder in the form in which it is embedded: deno run -A embed.ts FOLDER
 *
 * Text imports work without flags, over URLs and in bundles, and byte imports do not yet: the weights become
 * base64, in lines, so that tools that show text survive it.
 *
 * @module
 */
const [folder] = Deno.args;
if (!folder) throw new TypeError("Cannot embed: give the folder of the checkpoint");
const here = import.meta.dirname!;
for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json"]) {
  await Deno.writeTextFile(`${here}/${name}`, await Deno.readTextFile(`${folder}/${name}`));
}
const base64 = (await Deno.readFile(`${folder}/model.safetensors`)).toBase64();
const lines = base64.match(/.{1,16384}/g)!;
await Deno.writeTextFile(`${here}/model.safetensors.base64.txt`, lines.join("\n") + "\n");
