/** docs/getting-started.md: its files, its commands, and the message in a real browser. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CHROMIUM_FLAGS, find } from "./browsers.ts";
import { freePort, LocalRun } from "./local-run.ts";
import { Project } from "./project.ts";

const root = join(import.meta.dirname, "..", "..", "..");
const example = join(root, "examples", "first-app");
const page = readFileSync(join(root, "docs", "getting-started.md"), "utf8");
const files = Object.fromEntries(
  readdirSync(example, { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== "README.md")
    .map(({ name }) => [name, readFileSync(join(example, name), "utf8")]),
);
const roomcast = join(root, ".venv", "bin", "roomcast");

let run: LocalRun | undefined;
let browser: Browser | undefined;
let vite: ChildProcess | undefined;
let project: Project;

beforeAll(async () => {
  project = await Project.make(
    "getting-started",
    {
      "@types/react": "19.3.0",
      "@types/react-dom": "19.3.0",
      react: "19.3.1",
      "react-dom": "19.3.1",
      typescript: "7.0.2",
      vite: "8.3.8",
    },
    files,
  );
});
afterAll(async () => {
  if (vite?.pid) process.kill(-vite.pid); // npx would leave the server behind
  await browser?.close();
  await run?.end();
});

test("the page shows each file as it is, and they are short", () => {
  for (const [name, text] of Object.entries(files)) expect(page, name).toContain(text.trimEnd());
  for (const name of ["app.py", "main.tsx"]) expect(files[name]!.trimEnd().split("\n").length).toBeLessThan(40);
});

test("an order is shown and confirmed; a wrong payload is a compile error", async () => {
  await project.run(roomcast, ["contract", "app.py", "--types", "contract.ts"]);
  await project.run("npx", ["tsc"]);
  const main = project.path("main.tsx");
  writeFileSync(
    main,
    files["main.tsx"]!.replace('"order:confirm", { orderId }', '"order:confirm", { order: orderId }'),
  );
  await expect(project.run("npx", ["tsc"])).rejects.toThrow(/orderId/);
  writeFileSync(main, files["main.tsx"]!);

  run = await LocalRun.start(project.folder);
  const port = await freePort();
  const env = { ...process.env, VITE_WEBSOCKET_URL: run.url };
  vite = spawn("npx", ["vite", "--port", `${port}`, "--strictPort"], {
    cwd: project.folder,
    env,
    detached: true,
  });
  browser = await chromium.launch({ executablePath: find("Chromium"), args: CHROMIUM_FLAGS });
  const tab = await browser.newPage();
  const address = `http://localhost:${port}/?token=${await run.token("ann")}`;
  await expect
    .poll(
      () =>
        tab.goto(address).then(
          () => true,
          () => false,
        ),
      { timeout: 30_000 },
    )
    .toBe(true);
  await tab.getByRole("heading", { name: "Orders (connected)" }).waitFor();
  await run.command("send", "room", "orders", "order:placed", '{"orderId": "7", "by": "Bob"}');
  await tab.getByText("7: placed by Bob").waitFor();
  await tab.getByRole("button", { name: "Confirm" }).click();
  await tab.getByText("7: confirmed by ann").waitFor();
}, 180_000);
