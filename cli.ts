/**
 * The command line. `deno run -A cli.ts --help` tells the rest.
 *
 * @module
 */
import { main } from "./cli/main.ts";

if (import.meta.main) Deno.exit(await main(Deno.args));
