/**
 * GET /: the page, one file that is part of the program. It may load nothing and run nothing but what stands
 * in it.
 *
 * @module
 */
import html from "./page/built.html" with { type: "text" };

/**
 * Sources that may run: the hashes of the page's own inline scripts or styles, which `deno task page` makes.
 */
async function hashes(tag: "script" | "style"): Promise<string> {
  const found = [...html.matchAll(new RegExp(`<${tag}[^>]*>([\\s\\S]*?)</${tag}>`, "g"))];
  const sources = await Promise.all(found.map(async ([, text]) => {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    return `'sha256-${new Uint8Array(digest).toBase64()}'`;
  }));
  return sources.length > 0 ? sources.join(" ") : "'none'";
}

const policy = [
  "default-src 'none'",
  `script-src ${await hashes("script")}`,
  `style-src ${await hashes("style")}`,
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types dompurify",
].join("; ");

export function page(): Response {
  return new Response(html, {
    headers: {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": policy,
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cache-control": "no-cache",
    },
  });
}
