/**
 * Errors say the action, a colon, what is wrong: `Cannot open "./dir": there is no such folder: check the
 * path`.
 *
 * A text that begins with a small letter, or with Deno, is a reason, which the caller puts behind a "Cannot
 * …:" of its own. What a variable begins with is not seen.
 */
import { projectPath } from "./project_path.ts";

/** The folders whose errors users read. */
const FOLDERS = /^(runtime|cli|serve|tools)\/|^(mod|cli)\.ts$/;

/** The texts between the values of a message; undefined where it begins with a value. */
function textsOf(node: Deno.lint.Node): string[] | undefined {
  if (node.type === "Literal" && typeof node.value === "string") return [node.value];
  if (node.type === "TemplateLiteral") {
    const texts = node.quasis.map(({ cooked }) => cooked);
    return texts[0] === "" ? undefined : texts;
  }
  if (node.type === "BinaryExpression" && node.operator === "+") {
    const left = textsOf(node.left);
    return left && [...left, ...(textsOf(node.right) ?? [""])];
  }
  return undefined;
}

/** Whether parts of the message come from elsewhere, which may hold the colon. */
function isWhole(node: Deno.lint.Node): boolean {
  if (node.type === "BinaryExpression") return isWhole(node.left) && isWhole(node.right);
  return node.type === "Literal" || node.type === "TemplateLiteral" && node.expressions.length === 0;
}

/** Reports messages of thrown errors in another form. */
export const errorForm: Deno.lint.Rule = {
  create(context) {
    if (!FOLDERS.test(projectPath(context.filename))) return {};
    return {
      NewExpression(node) {
        const message = node.arguments[0];
        if (node.callee.type !== "Identifier" || !/^([A-Z]\w*)?Error$/.test(node.callee.name) || !message) {
          return;
        }
        const texts = textsOf(message);
        if (!texts || /^([a-z]|Deno )/.test(texts[0]!)) return;
        if (!texts[0]!.startsWith("Cannot ")) {
          context.report({
            node: message,
            message: `Errors begin with "Cannot", then what was to be done: not ${
              JSON.stringify(texts[0]!.slice(0, 40))
            }`,
            hint: 'Cannot open "./dir": there is no such folder: check the path',
          });
        } else if (isWhole(message) && !/: \S/.test(texts.join(""))) {
          context.report({
            node: message,
            message: "Errors say what is wrong behind a colon",
            hint: 'Cannot open "./dir": there is no such folder: check the path',
          });
        }
      },
    };
  },
};
