/** docs/django.md: the project that it shows, with two people in Chromium. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CHROMIUM_FLAGS, find } from "./browsers.ts";
import { freePort, LocalRun } from "./local-run.ts";

const root = join(import.meta.dirname, "..", "..", "..");
const example = join(root, "examples", "django");
const python = join(root, ".venv", "bin", "python");

/** Two users, and an order of the first. */
const PEOPLE = `
from django.contrib.auth.models import User
from shop.models import Order
ann = User.objects.create_user("ann", password="ann's own")
User.objects.create_user("stan", password="stan's own", is_staff=True)
Order.objects.create(customer=ann)
`;

let run: LocalRun;
let browser: Browser;
let served: ChildProcess | undefined;
let folder: string;
let port: number;

beforeAll(async () => {
  run = await LocalRun.start();
  browser = await chromium.launch({ executablePath: find("Chromium"), args: CHROMIUM_FLAGS });
  folder = mkdtempSync(join(tmpdir(), "roomcast-django-"));
  cpSync(example, folder, { recursive: true, filter: (path) => !/db\.sqlite3|__pycache__/.test(path) });
  cpSync(join(root, "client", "dist"), join(folder, "shop", "static", "roomcast"), { recursive: true });
  port = await freePort();
});
afterAll(async () => {
  served?.kill();
  await browser?.close();
  await run?.end();
  rmSync(folder, { recursive: true });
});

test("the page shows the files as they are", () => {
  const page = readFileSync(join(root, "docs", "django.md"), "utf8");
  const blocks = [...page.matchAll(/^```(?:python|html)\n# (\S+)\n(.*?)^```/gms)];
  expect(blocks.map(([, file]) => file)).toEqual([
    "shop/settings.py",
    "shop/realtime.py",
    "shop/views.py",
    "shop/views.py",
    "shop/urls.py",
  ]);
  for (const [, file, code] of blocks) expect(readFileSync(join(example, file!), "utf8"), file).toContain(code);
  const [, script] = /```html\n(<script.*?)```/s.exec(page)!;
  expect(readFileSync(join(example, "shop", "templates", "orders.html"), "utf8")).toContain(script);
});

async function enter(name: string): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`http://localhost:${port}/`);
  await page.getByLabel("Username").fill(name);
  await page.getByLabel("Password").fill(`${name}'s own`);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.locator("#state", { hasText: "connected" }).waitFor();
  return page;
}

test("what the staff ship, the customer's page shows at once", async () => {
  // As on a build machine: nothing of Roomcast is set.
  for (const words of [["migrate"], ["makemigrations", "--check"], ["shell", "-c", PEOPLE]])
    await promisify(execFile)(python, ["manage.py", ...words], { cwd: folder });
  served = spawn(python, ["manage.py", "runserver", "--noreload", `${port}`], {
    cwd: folder,
    env: { ...process.env, ...run.environment },
    stdio: "ignore",
  });
  const up = () =>
    fetch(`http://localhost:${port}/login/`).then(
      ({ status }) => status,
      () => 0,
    );
  await expect.poll(up, { timeout: 30_000 }).toBe(200);
  const ann = await enter("ann");
  const stan = await enter("stan");
  expect(await ann.locator("#order-1").textContent()).toBe("paid");
  await stan.getByRole("button", { name: "Ship" }).click();
  await ann.locator("#order-1", { hasText: "shipped" }).waitFor();
});
