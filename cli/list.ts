/**
 * `lakh list`: the models in the hub's cache.
 *
 * @module
 */
import { hubCacheFolder } from "../runtime/load/hub_cache.ts";
import { cachedModels } from "./cached_models.ts";
import { columns, command, EXIT } from "./command.ts";
import { formatBytes } from "./format.ts";
import { writeError, writeOut } from "./terminal.ts";

export default command({
  name: "list",
  summary: "Lists the models in the hub's cache, which Python's libraries share.",
  words: "",
  options: { json: { type: "flag", help: "one JSON array" } },
  examples: [["lakh list", "names and sizes"], ["lakh rm org/name", "removes one of them"]],

  async run({ json }) {
    const models = await cachedModels();
    if (json) writeOut(JSON.stringify(models) + "\n");
    else if (models.length > 0) {
      writeOut(columns(models.map(({ name, bytes }) => [name, formatBytes(bytes)])) + "\n");
    } else writeError(`There is no model in ${hubCacheFolder()}: lakh chat org/name downloads one\n`);
    return EXIT.ok;
  },
});
