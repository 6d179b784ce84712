/**
 * The project's own lint rules, run by `deno lint` (deno.json names this file). CONTRIBUTING.md says what
 * they hold.
 *
 * `deno lint --fix` wraps comments that are too wide.
 *
 * @module
 */
import { commentWidth } from "./lint/comment_width.ts";
import { errorForm } from "./lint/error_form.ts";
import { layering } from "./lint/layering.ts";
import { modelType } from "./lint/model_type.ts";

export default {
  name: "lakh",
  rules: {
    "layering": layering,
    "error-form": errorForm,
    "comment-width": commentWidth,
    "model-type": modelType,
  },
} satisfies Deno.lint.Plugin;
