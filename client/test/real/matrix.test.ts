/**
 * The packed client in other people's tools: it is built there, and what was built connects.
 * No row may need more than the README says: an application gives `WebSocket` where there is no global one.
 */
import { createRequire } from "node:module";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ProtocolServer } from "../protocol-server.ts";
import { launch } from "./browsers.ts";
import { freePort } from "./local-run.ts";
import { Project } from "./project.ts";
import { IMPORTS, MODULE, PROOF, REQUIRE, USE } from "./use.ts";

const ws = createRequire(import.meta.url).resolve("ws");
// The first run waits for npm.
vi.setConfig({ testTimeout: 300_000 });
let server: ProtocolServer;
beforeAll(async () => {
  server = await ProtocolServer.start();
});
afterAll(() => server.close());

const REACT = { react: "19.3.1" };
/** Runs before a bundle: the options, and a WebSocket where there is none. */
const options = (lacksWebSocket = true) =>
  `globalThis.options = { url: ${JSON.stringify(server.url)}${lacksWebSocket ? `, WebSocket: require(${JSON.stringify(ws)})` : ""} };\n`;
/** Prints the proof of a bundle that was made for a browser. */
const runner = (bundle: string) => `${options()}
require("./${bundle}");
globalThis.proof.then(console.log, (error) => { console.error(error); process.exit(1); });
`;

test.each(["18.20.8", "20.20.2", "22.23.3", "24.21.0"])("Node %s, by require and by import", async (version) => {
  const name = `node-${process.platform}-${process.arch}`;
  const major = Number(version.split(".")[0]);
  const project = await Project.make(
    `node-${major}`,
    { [name]: version, ...REACT },
    {
      "main.cjs": `${options(major < 22)}${REQUIRE}\nproof.then(console.log);`,
      "options.cjs": options(major < 22),
      "main.mjs": `import "./options.cjs";${MODULE}\nconsole.log(await proof);`,
    },
  );
  const node = project.path(`node_modules/${name}/bin/node`);
  expect(await project.run(node, ["--version"])).toBe(`v${version}\n`);
  for (const file of ["main.cjs", "main.mjs"]) expect(await project.run(node, [file])).toBe(`${PROOF}\n`);
});

test("Deno", async () => {
  const project = await Project.make(
    "deno",
    { deno: "2.9.6", ...REACT },
    {
      "main.mjs": `globalThis.options = ${JSON.stringify({ url: server.url })};\n const { proof } = await import("./use.mjs").then(() => globalThis); console.log(await proof);`,
      "use.mjs": MODULE,
    },
  );
  expect(await project.run(project.path("node_modules/.bin/deno"), ["run", "--allow-all", "--quiet", "main.mjs"])).toBe(
    `${PROOF}\n`,
  );
});

test("Bun, by require and by import", async () => {
  const project = await Project.make(
    "bun",
    { bun: "1.4.5", ...REACT },
    {
      "options.cjs": options(false),
      "main.mjs": `import "./options.cjs";${MODULE}\nconsole.log(await proof);`,
      "main.cjs": `${options(false)}${REQUIRE}\nproof.then(console.log);`,
    },
  );
  for (const file of ["main.cjs", "main.mjs"]) {
    expect(await project.run(project.path("node_modules/.bin/bun"), [file])).toBe(`${PROOF}\n`);
  }
});

test.each(["4.47.0", "5.112.2"])("webpack %s", async (version) => {
  const build = `
    const webpack = require("webpack");
    webpack({
      mode: "production", target: "web", entry: "./main.js",
      output: { path: __dirname + "/out", filename: "bundle.js", hashFunction: "sha256" },
    }, (error, stats) => {
      if (error) throw error;
      console.log(stats.toString({ all: false, errors: true, warnings: true }));
      process.exit(stats.hasErrors() ? 1 : 0);
    });`;
  const project = await Project.make(
    `webpack-${version[0]}`,
    { webpack: version, ...REACT },
    {
      "build.js": build,
      "main.js": MODULE,
      "run.js": runner("out/bundle.js"),
    },
  );
  expect((await project.node(["build.js"])).trim()).toBe("");
  expect(await project.node(["run.js"])).toBe(`${PROOF}\n`);
});

test("esbuild, for a browser and as CommonJS", async () => {
  const project = await Project.make(
    "esbuild",
    { esbuild: "0.28.2", ...REACT },
    {
      "main.js": MODULE,
      "run-iife.js": runner("iife.js"),
      "run-cjs.js": runner("cjs.js"),
    },
  );
  for (const format of ["iife", "cjs"]) {
    const words = [
      "main.js",
      "--bundle",
      "--minify",
      `--format=${format}`,
      `--outfile=${format}.js`,
      "--log-level=warning",
    ];
    const printed = await project.run(project.path("node_modules/.bin/esbuild"), words);
    // Its one word: `import.meta` is empty outside ES modules, which is what socket.ts expects there.
    expect(printed.replace(/▲ \[WARNING\] "import\.meta" is not available[^]*?\n\n[^]*?\n\n[^]*?\n\n/, "")).toBe("");
    expect(await project.node([`run-${format}.js`])).toBe(`${PROOF}\n`);
  }
});

test.each(["5.4.21", "7.3.8"])("Vite %s", async (version) => {
  const project = await Project.make(
    `vite-${version[0]}`,
    { vite: version, ...REACT },
    {
      "main.js": MODULE,
      "vite.config.mjs": `export default { build: { rollupOptions: { input: "main.js", output: { entryFileNames: "out.js", format: "iife" } } } };`,
      "run.js": runner("dist/out.js"),
    },
  );
  await project.node(["node_modules/vite/bin/vite.js", "build", "--logLevel", "warn"]);
  expect(await project.node(["run.js"])).toBe(`${PROOF}\n`);
});

test("Next.js, built and served, in Chromium", async () => {
  const page = `"use client";
    import { useEffect, useState } from "react";
    ${IMPORTS}${USE}
    export default function Page() {
      const [proof, setProof] = useState("");
      const state = hooks.useConnectionState(null);
      useEffect(() => {
        const url = new URLSearchParams(location.search).get("url");
        use({ createClient, RoomcastError }, { io }, { resume }, socket, { url }).then(setProof, (error) => setProof(String(error)));
      }, []);
      return <p id="proof">{proof || state}</p>;
    }`;
  const project = await Project.make(
    "next-16",
    { next: "16.4.6", "react-dom": "19.3.1", ...REACT },
    {
      "app/layout.js": "export default ({ children }) => <html><body>{children}</body></html>;",
      "app/page.js": page,
      // This folder is inside another project with a lock file of its own.
      "next.config.mjs":
        "export default { turbopack: { root: import.meta.dirname }, outputFileTracingRoot: import.meta.dirname };",
    },
  );
  const next = "node_modules/next/dist/bin/next";
  await project.node([next, "build"], { NEXT_TELEMETRY_DISABLED: "1" });
  const port = await freePort();
  const served = project.start([next, "start", "--hostname", "127.0.0.1", "--port", `${port}`]);
  const browser = await launch("Chromium");
  try {
    const address = `http://127.0.0.1:${port}/?url=${encodeURIComponent(server.url)}`;
    const html = async () => (await fetch(address).catch(() => undefined))?.text();
    while (!(await html())) await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await html()).toContain('<p id="proof">disconnected</p>'); // rendered by the server
    const page = await browser.newPage();
    await page.goto(address);
    await page.waitForFunction(() => !/^disconnected$/.test(document.querySelector("#proof")!.textContent!));
    expect(await page.$eval("#proof", ({ textContent }) => textContent)).toBe(PROOF);
  } finally {
    await browser.close();
    served.kill();
  }
});

test.each([true, false])("React Native: Metro, with package exports %s, and its globals", async (packageExports) => {
  const build = `
    const Metro = require("metro");
    (async () => {
      const defaults = await Metro.loadConfig({ cwd: __dirname, config: undefined });
      const config = {
        ...defaults,
        projectRoot: __dirname,
        watchFolders: [__dirname],
        resolver: { ...defaults.resolver, unstable_enablePackageExports: ${packageExports}, useWatchman: false },
        reporter: { update() {} },
      };
      await Metro.runBuild(config, { entry: "main.js", out: "out.js", platform: "ios", minify: true, dev: false });
    })().catch((error) => { console.error(error); process.exit(1); });`;
  // What the runtime of React Native has, and nothing else.
  const run = `
    const { createContext, runInContext } = require("node:vm");
    const { setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask } = globalThis;
    ${options()}
    const context = createContext({
      setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask, console, options,
      WebSocket: options.WebSocket, navigator: { product: "ReactNative" },
    });
    runInContext("var window = globalThis, global = globalThis; delete globalThis.WebAssembly;", context);
    runInContext(require("node:fs").readFileSync("out.js", "utf8"), context);
    context.proof.then(console.log, (error) => { console.error(error); process.exit(1); });`;
  const project = await Project.make(
    "react-native",
    {
      "@babel/core": "7.29.13",
      "@babel/runtime": "7.29.15",
      "@react-native/babel-preset": "0.88.1",
      "abort-controller": "3.0.0",
      metro: "0.87.1",
      ...REACT,
    },
    {
      "babel.config.js": 'module.exports = { presets: ["@react-native/babel-preset"] };',
      "build.js": build,
      // React Native gives itself these.
      "polyfill.js":
        'const a = require("abort-controller/dist/abort-controller"); globalThis.AbortController = a.AbortController; globalThis.AbortSignal = a.AbortSignal;',
      "main.js": `import "./polyfill"; ${MODULE}`,
      "run.js": run,
    },
  );
  await project.node(["build.js"]);
  expect(await project.node(["run.js"])).toBe(`${PROOF}\n`);
});

test.each(["27.5.1", "28.1.3", "29.7.0", "30.5.2"])(
  "Jest %s with jsdom, without any configuration",
  async (version) => {
    const uses = (environment: string, given: string) => `/** @jest-environment ${environment} */
    ${given}
    ${REQUIRE}
    it("connects", async () => expect(await globalThis.proof).toBe(${JSON.stringify(PROOF)}));`;
    const project = await Project.make(
      `jest-${version.slice(0, 2)}`,
      { jest: version, "jest-environment-jsdom": version, ...REACT },
      {
        "dom.test.js": uses("jsdom", options(false)),
        "node.test.js": uses("node", options()),
      },
    );
    expect(await project.node(["node_modules/jest/bin/jest.js", "--ci"])).toMatch(/Tests: +2 passed, 2 total/);
  },
);

const RESOLUTIONS: [string, string, string][] = ["4.7.4", "5.0.4", "5.9.3", "6.0.3", "7.0.2"].flatMap((version) => {
  const major = Number(version[0]);
  const old: [string, string][] =
    major < 6
      ? [
          ["commonjs", "node"],
          ["esnext", "node"],
        ]
      : [];
  const node: [string, string][] = [
    ["node16", "node16"],
    ["nodenext", "nodenext"],
  ];
  const bundler: [string, string][] = major > 4 ? [["esnext", "bundler"]] : [];
  return [...old, ...node, ...bundler].map(([module, resolution]): [string, string, string] => [
    version,
    resolution,
    module,
  ]);
});
test.each(RESOLUTIONS)(
  "TypeScript %s with moduleResolution %s and module %s",
  async (version, moduleResolution, module) => {
    const code = `
    import { createClient, RoomcastError, type State } from "roomcast";
    import { io } from "roomcast/io";
    import { useConnectionState, useRoom } from "roomcast/react";
    import { initSocket, onDashboardUpdate } from "roomcast/socket";
    import { FakeServer } from "roomcast/testing";
    const client = createClient<{ "order:shipped": { orderId: string } }>({ url: "wss://a.test", getToken: () => "t" });
    export const stop: () => void = client.on("order:shipped", ({ orderId }) => orderId.length);
    // @ts-expect-error no such event
    client.on("order:shiped", () => {});
    export const state: State = client.state;
    export const refused = (error: unknown): boolean => error instanceof RoomcastError && error.code === "forbidden";
    export const all: unknown[] = [io, useConnectionState, useRoom, initSocket, onDashboardUpdate, FakeServer];
  `;
    const files = [
      "a.ts",
      ...(moduleResolution.startsWith("node1") || moduleResolution === "nodenext" ? ["b.cts", "c.mts"] : []),
    ];
    const project = await Project.make(
      `typescript-${version}`,
      { typescript: version, "@types/react": "18.3.8" },
      {
        ...Object.fromEntries(files.map((file) => [file, code])),
        "tsconfig.json": JSON.stringify({
          compilerOptions: {
            target: "es2020",
            lib: ["es2020", "dom"],
            strict: true,
            noEmit: true,
            module,
            moduleResolution,
            types: [],
          },
          files,
        }),
      },
    );
    await project.node(["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"]);
  },
);
