/** What is in the tarball, how large it is, and that a Vite project can use it. Runs on dist/, as `npm test` builds it. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { pack, type Packed, unpack } from "./pack.ts";
import { ProtocolServer } from "./protocol-server.ts";

const here = join(import.meta.dirname, "..");
/** Bytes, minified and gzipped, of `createClient` with all that it needs. */
const CORE_BUDGET = 6_000;
/** The same with `resume`. */
const RESUME_BUDGET = 8_000;

const manifest = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
const subpaths = Object.keys(manifest.exports).filter((path) => path !== "./package.json");

let folder: string;
let packed: Packed;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "roomcast-"));
  packed = pack(folder);
}, 30_000);
afterAll(() => rmSync(folder, { recursive: true }));

/** Bundles one module as an application's build would, and gives back its code. */
async function bundle(source: string, env: Record<string, string> = {}): Promise<string> {
  const project = mkdtempSync(join(folder, "project-"));
  writeFileSync(join(project, "package.json"), '{"type": "module", "private": true}');
  unpack(packed, project);
  writeFileSync(join(project, "main.js"), source);
  writeFileSync(
    join(project, ".env"),
    Object.entries(env)
      .map(([key, value]) => `${key}=${value}\n`)
      .join(""),
  );
  await build({
    root: project,
    configFile: false,
    logLevel: "error",
    build: {
      target: "es2022",
      minify: true,
      modulePreload: false,
      rollupOptions: {
        input: join(project, "main.js"),
        preserveEntrySignatures: "strict",
        output: { entryFileNames: "out.js" },
        external: ["react"],
      },
    },
  });
  return readFileSync(join(project, "dist", "out.js"), "utf8");
}
const gzipped = (code: string) => gzipSync(code, { level: 9 }).length;

test("the tarball holds every module in both formats with its types, and nothing else", () => {
  const modules = readdirSync(join(here, "src")).filter((name) => !name.endsWith(".d.ts"));
  const built = modules
    .map((name) => name.replace(/\.ts$/, ""))
    .flatMap((name) => ["dist", "dist/cjs"].flatMap((format) => [`${format}/${name}.d.ts`, `${format}/${name}.js`]));
  const folders = subpaths.filter((path) => path !== ".").map((path) => `${path.slice(2)}/package.json`);
  const others = ["LICENSE", "README.md", "dist/cjs/package.json", "package.json", ...folders];
  expect(packed.files).toEqual([...built, ...others].sort());
});

test("every subpath leads to a module and its types in both formats, with and without `exports`", () => {
  for (const subpath of subpaths) {
    const { import: esm, default: cjs } = manifest.exports[subpath];
    for (const path of [esm.types, esm.default, cjs.types, cjs.default]) expect(packed.files).toContain(path.slice(2));
    // Resolvers that do not know `exports` look for a folder.
    const { main, types } = JSON.parse(readFileSync(join(here, subpath, "package.json"), "utf8"));
    expect([join(subpath, main), join(subpath, types)]).toEqual([join(cjs.default), join(cjs.types)]);
  }
});

test("the package may be published, and a package page shows its README with links that work", () => {
  expect(manifest).not.toHaveProperty("private");
  expect(manifest).not.toHaveProperty("dependencies");
  const [own, whole] = ["LICENSE", "../LICENSE"].map((path) => readFileSync(join(here, path), "utf8"));
  expect(own).toBe(whole);
  expect(manifest).toMatchObject({ license: "MIT", engines: { node: ">=18" } });
  const links = [...readFileSync(join(here, "README.md"), "utf8").matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link!);
  for (const link of links) expect(/^(https:|#)/.test(link) || packed.files.includes(link), link).toBe(true);
});

test("Node finds each entry by require and by import, and both make a client", async () => {
  const project = mkdtempSync(join(folder, "project-"));
  unpack(packed, project);
  symlinkSync(
    dirname(createRequire(import.meta.url).resolve("react/package.json")),
    join(project, "node_modules", "react"),
  );
  const entries = subpaths.map((path) => path.replace(".", "roomcast"));
  const proof =
    "process.stdout.write(all.map((entry) => Object.keys(entry).filter((k) => !/^(default|module.exports)$/.test(k)).length).join());";
  const byRequire = `const all = ${JSON.stringify(entries)}.map((entry) => require(entry)); ${proof}`;
  const byImport = `const all = await Promise.all(${JSON.stringify(entries)}.map((entry) => import(entry))); ${proof}`;
  writeFileSync(join(project, "a.cjs"), byRequire);
  writeFileSync(join(project, "a.mjs"), byImport);
  const [required, imported] = ["a.cjs", "a.mjs"].map((file) =>
    execFileSync(process.execPath, [file], { cwd: project, encoding: "utf8" }),
  );
  expect(required).toMatch(/^[1-9]\d*(,[1-9]\d*)+$/);
  expect(imported).toBe(required);
});

test(`the core is at most ${CORE_BUDGET} bytes gzipped`, async () => {
  const sizes: Record<string, number> = {};
  for (const [name, source] of Object.entries({
    core: 'export { createClient } from "roomcast";',
    resume: 'export { resume } from "roomcast/resume"; export { createClient } from "roomcast";',
    socket: 'export * from "roomcast/socket";',
    io: 'export * from "roomcast/io";',
    react: 'export * from "roomcast/react"; export { createClient } from "roomcast";',
  })) {
    const code = await bundle(source);
    sizes[name] = gzipped(code);
    expect(/from\s*["']react["']/.test(code), `${name} loads React`).toBe(name === "react");
    // Of the adapter's list of names, only the refusals are for the browser.
    expect(code.includes("no effect: it is for HTTP requests"), name).toBe(false);
  }
  console.log(sizes);
  expect(sizes.core).toBeLessThanOrEqual(CORE_BUDGET);
  const readme = readFileSync(join(here, "README.md"), "utf8").replace(/\s+/g, " ");
  expect(sizes.resume).toBeLessThanOrEqual(RESUME_BUDGET);
  expect(readme).toContain(`${RESUME_BUDGET.toLocaleString("en")} with`);
  expect(readme).toContain(`at most ${CORE_BUDGET.toLocaleString("en")} bytes gzipped`);
});

test("what is not used is not bundled", async () => {
  const code = await bundle('import { createClient } from "roomcast"; export const RoomcastError = 1;');
  expect(code.trim()).toMatch(/^(const|let|var) \w+=1;export\{\w+ as RoomcastError\};$/);
});

test("a Vite project that has installed the tarball builds and connects", async () => {
  const server = await ProtocolServer.start();
  // The URL comes the way of a Vite application: from .env, put in by the build.
  const code = await bundle(
    `import { initSocket, joinDashboard, disconnectSocket } from "roomcast/socket";
     export async function main(WebSocket) {
       initSocket({ token: "built", WebSocket });
       const reply = await joinDashboard();
       disconnectSocket();
       return reply;
     }`,
    { VITE_WEBSOCKET_URL: server.url },
  );
  const path = join(folder, "built.mjs");
  writeFileSync(path, code);
  const { main } = await import(/* @vite-ignore */ path);
  const { WebSocket } = await import("ws");
  expect(await main(WebSocket)).toEqual({ success: true, userRole: "user", room: "dashboard_user_u1" });
  expect(server.tokens).toEqual(["built"]);
  server.close();
});
