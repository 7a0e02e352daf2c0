/** docs/nextjs.md: its files, built by Next.js, and the message in Chromium. */
import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CHROMIUM_FLAGS, find } from "./browsers.ts";
import { freePort, LocalRun } from "./local-run.ts";
import { Project } from "./project.ts";

const root = join(import.meta.dirname, "..", "..", "..");
const example = join(root, "examples", "nextjs");
const files = Object.fromEntries(
  readdirSync(example, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.tsx?$/.test(name))
    .map((name) => [name, readFileSync(join(example, name), "utf8")]),
);

let run: LocalRun;
let browser: Browser | undefined;
let served: ChildProcess | undefined;
beforeAll(async () => {
  run = await LocalRun.start();
});
afterAll(async () => {
  served?.kill();
  await browser?.close();
  await run?.end();
});

test("the page shows each file as it is", () => {
  const page = readFileSync(join(root, "docs", "nextjs.md"), "utf8");
  for (const [name, text] of Object.entries(files))
    if (!/layout|page\.tsx/.test(name)) expect(page, name).toContain(text.trimEnd());
});

test("an order is shipped by a route, and the page hears of it", async () => {
  const variables = Object.entries(run.environment).map(([key, value]) => `${key}=${value}\n`);
  const project = await Project.make(
    "howto-nextjs",
    {
      "@aws-sdk/client-sqs": "3.1169.0",
      "@types/node": "20.19.43",
      "@types/react": "19.3.0",
      jose: "6.2.18",
      next: "16.4.6",
      react: "19.3.1",
      "react-dom": "19.3.1",
      typescript: "5.9.3",
    },
    {
      ...files,
      ".env.local": variables.join(""), // which Next.js reads by itself
      // This folder is inside another project with a lock file of its own.
      "next.config.mjs":
        "export default { turbopack: { root: import.meta.dirname }, outputFileTracingRoot: import.meta.dirname };",
    },
  );
  const next = "node_modules/next/dist/bin/next";
  await project.node([next, "build"], { NEXT_TELEMETRY_DISABLED: "1" }); // checks the types, too
  const port = await freePort();
  const address = `http://localhost:${port}/`;
  served = project.start([next, "start", "--port", `${port}`]);
  const up = () =>
    fetch(address).then(
      ({ ok }) => ok,
      () => false,
    );
  await expect.poll(up, { timeout: 30_000 }).toBe(true);
  browser = await chromium.launch({ executablePath: find("Chromium"), args: CHROMIUM_FLAGS });
  const context = await browser.newContext();
  await context.addCookies([{ name: "user", value: "ann", url: address }]);
  const tab = await context.newPage();
  await tab.goto(address);
  await tab.getByRole("heading", { name: "Orders (connected)" }).waitFor();
  await tab.getByRole("button", { name: "Ship order 7" }).click();
  await tab.getByText("7: shipped").waitFor();
}, 300_000);
