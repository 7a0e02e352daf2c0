/**
 * The packed client in other people's tools: it is built there, and what was built connects.
 * No row may need more than the README says: an application gives `WebSocket` where there is no global one.
 */
import { createRequire } from "node:module";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ProtocolServer } from "../protocol-server.ts";
import { Project } from "./project.ts";

const ws = createRequire(import.meta.url).resolve("ws");
const PROOF = "in dashboard_user_u1; io in dashboard_user_u1; socket in dashboard_user_u1";

// The first run waits for npm.
vi.setConfig({ testTimeout: 300_000 });
let server: ProtocolServer;
beforeAll(async () => {
  server = await ProtocolServer.start();
});
afterAll(() => server.close());

/** Uses every entry, and says which rooms it came into. */
const USE = `
async function use({ createClient, RoomcastError }, { io }, socket, options) {
  const { url } = options;
  const client = createClient({ getToken: () => "t", ...options });
  const { room } = await client.join("dashboard");
  const refused = await client.send("unknown").catch((error) => error);
  if (!(refused instanceof RoomcastError)) throw refused;
  client.disconnect();
  const second = io(url, { auth: { token: "t" }, WebSocket: options.WebSocket });
  await new Promise((resolve) => second.on("connect", resolve));
  const reply = await second.emitWithAck("dashboard:join");
  if (typeof second.id !== "string") throw new Error("socket.id is " + second.id);
  second.disconnect();
  socket.initSocket({ token: "t", ...options });
  const third = await socket.joinDashboard();
  socket.disconnectSocket();
  return "in " + room + "; io in " + reply.room + "; socket in " + third.room;
}
`;
const IMPORTS = `
import { createClient, RoomcastError } from "roomcast";
import { io } from "roomcast/io";
import * as socket from "roomcast/socket";
import * as hooks from "roomcast/react";
`;
const REACT = { react: "19.3.1" };
/** A module that an application's bundler is given; it leaves a promise of the proof behind. */
const MODULE = `${IMPORTS}${USE}
if (typeof hooks.useRoom !== "function") throw new Error("roomcast/react has no useRoom");
globalThis.proof = use({ createClient, RoomcastError }, { io }, socket, globalThis.options);
`;
const REQUIRE = `${USE}
const hooks = require("roomcast/react");
if (typeof hooks.useRoom !== "function") throw new Error("roomcast/react has no useRoom");
globalThis.proof = use(require("roomcast"), require("roomcast/io"), require("roomcast/socket"), globalThis.options);
`;
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

const RESOLUTIONS: [string, string, string][] = ["4.7.4", "4.9.5", "5.0.4", "5.9.3", "6.0.3", "7.0.2"].flatMap(
  (version) => {
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
  },
);
test.each(RESOLUTIONS)(
  "TypeScript %s with moduleResolution %s and module %s",
  async (version, moduleResolution, module) => {
    const code = `
    import { createClient, RoomcastError, type State } from "roomcast";
    import { io } from "roomcast/io";
    import { useConnectionState, useRoom } from "roomcast/react";
    import { initSocket, onDashboardUpdate } from "roomcast/socket";
    const client = createClient<{ "order:shipped": { orderId: string } }>({ url: "wss://a.test", getToken: () => "t" });
    export const stop: () => void = client.on("order:shipped", ({ orderId }) => orderId.length);
    // @ts-expect-error no such event
    client.on("order:shiped", () => {});
    export const state: State = client.state;
    export const refused = (error: unknown): boolean => error instanceof RoomcastError && error.code === "forbidden";
    export const all: unknown[] = [io, useConnectionState, useRoom, initSocket, onDashboardUpdate];
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
