/**
 * GET /openapi.json: the API as a document, from the schemas that check the requests.
 *
 * @module
 */
import configuration from "../deno.json" with { type: "json" };
import { z } from "./deps.ts";
import type { Endpoint } from "./app.ts";

/** An OpenAPI 3.1 document of these endpoints. */
export function openApi(endpoints: readonly Endpoint[]): unknown {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const { method, path, summary, schema } of endpoints) {
    const parameters = [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
      name,
      in: "path",
      required: true,
      schema: { type: "string" },
    }));
    (paths[path.replace(/:(\w+)/g, "{$1}")] ??= {})[method] = {
      summary,
      ...(parameters.length > 0 && { parameters }),
      ...(schema && {
        requestBody: {
          required: true,
          content: { "application/json": { schema: z.toJSONSchema(schema, { io: "input" }) } },
        },
      }),
      responses: {
        "200": { description: "the answer" },
        default: {
          description: "what is wrong",
          content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
        },
      },
    };
  }
  const error = z.object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      code: z.string().nullable(),
      param: z.string().nullable(),
    }),
  });
  return {
    openapi: "3.1.0",
    info: { title: "lakh serve", version: configuration.version },
    paths,
    components: {
      schemas: { Error: z.toJSONSchema(error) },
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
    },
  };
}
