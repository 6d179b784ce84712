/**
 * Only the registry (and what maps other formats' names to it) looks at config.json's `model_type`: what a
 * family needs stands in its own file, not in conditions elsewhere.
 */
import { projectPath } from "./project_path.ts";

/** Files that may read it. */
const MAY_READ = ["runtime/models/registry.ts", "runtime/load/gguf"];

/** Reports reads of `model_type`, and conditions on what was read. Writing a config is no read. */
export const modelType: Deno.lint.Rule = {
  create(context) {
    const file = projectPath(context.filename);
    if (!/^(runtime|cli|serve)\//.test(file) || MAY_READ.some((path) => file.startsWith(path))) return {};
    const report = (node: Deno.lint.Node) =>
      context.report({
        node,
        message: "Only runtime/models/registry.ts looks at model_type",
        hint:
          "put what differs into the family's definition or its facts, or call modelTypeOf(config) for a message",
      });
    const isType = (node: Deno.lint.Node): boolean =>
      node.type === "Identifier" && node.name === "modelType" ||
      node.type === "MemberExpression" && isType(node.property);
    return {
      CallExpression(node) {
        for (const argument of node.arguments) {
          if (argument.type === "Literal" && argument.value === "model_type") report(argument);
        }
      },
      MemberExpression(node) {
        const { property } = node;
        const name = property.type === "Identifier"
          ? property.name
          : property.type === "Literal"
          ? property.value
          : undefined;
        if (name === "model_type") report(node);
      },
      BinaryExpression(node) {
        if (/^[!=]==?$/.test(node.operator) && [node.left, node.right].some((side) => isType(side))) {
          report(node);
        }
      },
      SwitchStatement(node) {
        if (isType(node.discriminant)) report(node);
      },
    };
  },
};
