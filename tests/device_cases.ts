/**
 * The one table of cases: every operation, run on every device and compared with the f64 reference.
 *
 * @module
 */
import type { DeviceCase } from "./cases/case.ts";
import { attentionCaseList } from "./cases/attention_cases.ts";
import { linearCaseList } from "./cases/linear_cases.ts";
import { rowCaseList } from "./cases/row_cases.ts";

/** Cases by operation, in the order of the table. */
export const deviceCases: ReadonlyMap<string, readonly DeviceCase[]> = Map.groupBy(
  [...linearCaseList, ...rowCaseList, ...attentionCaseList],
  ({ operation }) => operation,
);
