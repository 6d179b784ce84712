/**
 * Third-party modules that only tests need, pinned.
 *
 * @module
 */
export { default as fc } from "npm:fast-check@4.10.2";

/** Drives a browser. Loaded when a test asks for it. */
export function loadPlaywright(): Promise<typeof import("npm:playwright-core@1.65.1")> {
  return import("npm:playwright-core@1.65.1");
}

/** OpenAI's client. */
export async function loadOpenAI(): Promise<typeof import("npm:openai@7.57.0")> {
  return await import("npm:openai@7.57.0");
}

/** Vercel's AI SDK. */
export async function loadAiSdk() {
  const [{ streamText, generateText, jsonSchema, tool }, { createOpenAICompatible }] = await Promise.all([
    import("npm:ai@7.0.173"),
    import("npm:@ai-sdk/openai-compatible@3.0.92"),
  ]);
  return { streamText, generateText, jsonSchema, tool, createOpenAICompatible };
}

/** LangChain's client. */
export async function loadLangChain() {
  const { ChatOpenAI, OpenAIEmbeddings } = await import("npm:@langchain/openai@1.6.0");
  return { ChatOpenAI, OpenAIEmbeddings };
}

/** Anthropic's client. */
export async function loadAnthropic(): Promise<typeof import("npm:@anthropic-ai/sdk@1.13.0")> {
  return await import("npm:@anthropic-ai/sdk@1.13.0");
}
