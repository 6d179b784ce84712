/**
 * Makes serve/page/built.html, the page of `lakh serve`: one file with its styles and its bundled modules, so
 * that it needs no network.
 *
 *     deno task page
 *
 * @module
 */
const folder = new URL("../serve/page/", import.meta.url);

/** Where the page is put. */
export const BUILT = new URL("built.html", folder);

/** The page of the sources that are there now. */
export async function buildPage(): Promise<string> {
  const entry = decodeURIComponent(new URL("main.ts", folder).pathname);
  const lock = decodeURIComponent(new URL("../deno.lock", import.meta.url).pathname);
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", `--lock=${lock}`, "--platform", "browser", "--minify", entry],
  }).output();
  const decoder = new TextDecoder();
  if (code !== 0) throw new Error(`Cannot bundle the page: ${decoder.decode(stderr)}: mend that first`);
  // An end tag in a string would end the script.
  const script = decoder.decode(stdout).trim().replaceAll("</script", "<\\/script");
  const style = (await Deno.readTextFile(new URL("style.css", folder))).trim();
  const template = await Deno.readTextFile(new URL("template.html", folder));
  const notice = await Deno.readTextFile(new URL("NOTICE", folder));
  return template
    .replace("<!--NOTICE-->", () => `<!--\n${notice}-->`)
    .replace("<style></style>", () => `<style>\n${style}\n</style>`)
    .replace("></script>", () => `>\n${script}\n</script>`);
}

if (import.meta.main) {
  const text = await buildPage();
  await Deno.writeTextFile(BUILT, text);
  console.log(`${decodeURIComponent(BUILT.pathname)}: ${Math.ceil(text.length / 1000)} KB`);
}
