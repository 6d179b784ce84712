/**
 * The ways in which families write calls of tools.
 *
 * @module
 */

/** Words of chat templates that tell a format, and two calls as such a model writes them. */
export const FORMATS: Readonly<Record<string, { template: string; calls: string; toolsInWords?: boolean }>> =
  {
    hermes: {
      template: "{{ tools }}<tool_call></tool_call>",
      calls: '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "x}y\\"{"}}\n</tool_call>\n' +
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    },
    llama3: {
      template: "{{ tools }}ipython <|python_tag|> parameters",
      calls: '{"name": "add", "parameters": {"a": 1, "b": "x}y\\"{"}};{"name": "now", "parameters": {}}',
    },
    mistral: {
      template: "{{ tools }}[TOOL_CALLS]",
      calls:
        '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1, "b": "x}y\\"{"}}, {"name": "now", "arguments": {}}]',
    },
    "mistral's newer": {
      template: "{{ tools }}[TOOL_CALLS] [ARGS]",
      calls: '[TOOL_CALLS]add[ARGS]{"a": 1, "b": "x}y\\"{"}[TOOL_CALLS]now[ARGS]{}',
    },
    granite: {
      template: "{{ tools }}<|tool_call|>",
      calls:
        '<|tool_call|>[{"name": "add", "arguments": {"a": 1, "b": "x}y\\"{"}}, {"name": "now", "arguments": {}}]',
    },
    phi4: {
      template: "{{ tools }}<|tool_call|><|/tool_call|>",
      calls:
        '<|tool_call|>[{"name": "add", "arguments": {"a": 1, "b": "x}y\\"{"}}, {"name": "now", "arguments": {}}]' +
        "<|/tool_call|>",
    },
    cohere: {
      template: "{{ tools }}<|START_ACTION|><|START_THINKING|>",
      calls:
        '<|START_ACTION|>[\n{"tool_call_id": "0", "tool_name": "add", "parameters": {"a": 1, "b": "x}y\\"{"}},\n' +
        '{"tool_call_id": "1", "tool_name": "now", "parameters": {}}\n]<|END_ACTION|>',
    },
    deepseek: {
      template: "{{ tools }}<｜tool▁call▁begin｜>```json<think>",
      calls: "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n" +
        '{"a": 1, "b": "x}y\\"{"}\n```<｜tool▁call▁end｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n' +
        "{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    },
    harmony: {
      template: "{{ tools }}<|channel|> functions.",
      calls:
        '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1, "b": "x}y\\"{"}<|call|>' +
        "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}",
    },
    "qwen coder": {
      template: "{{ tools }}<tool_call><function=",
      calls:
        '<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\nx}y"{\n</parameter>\n</function>\n' +
        "</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    },
    "in words": {
      template: "no t**ls here",
      toolsInWords: true,
      calls: '<tool_call>{"name": "add", "arguments": {"a": 1, "b": "x}y\\"{"}}</tool_call>' +
        '<tool_call>{"name": "now", "arguments": {}}</tool_call>',
    },
  };
