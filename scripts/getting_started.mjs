// Follows docs/getting-started.md word for word, as somebody new does: an empty folder, an empty home, empty caches.
// It ends with the message in Chromium, and prints how long each step took. `make getting-started` runs it.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { chromium } from "playwright-core";

const root = dirname(import.meta.dirname);
const page = readFileSync(join(root, "docs", "getting-started.md"), "utf8");
const SERVES = { "roomcast dev": "http://localhost:3001/", "npx vite": "http://localhost:5173/" };
const LIMIT = 300; // seconds for one line
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** What the page says to do, in its order: a file to write, or a line for the shell. */
function steps() {
  const found = [];
  let file;
  for (const [text, , code, command] of page.matchAll(/^```(\w+)\n(.*?)^```|^ {4}(\S[^\n]*)$|`(\w[\w-]*\.\w+)`/gms)) {
    if (code !== undefined) found.push({ file, code });
    else if (command) found.push({ command });
    else file = text.slice(1, -1);
  }
  return found;
}

const seconds = (since) => (performance.now() - since) / 1000;
const began = performance.now();
const home = mkdtempSync(join(tmpdir(), "roomcast-newcomer-"));
const project = join(home, "shop");
mkdirSync(project);
// Of this shell only how registries are reached, and where the programs are. The real Python comes first: a pyenv's
// shim finds it only with the home that it is installed in.
const kept = Object.entries(process.env).filter(([key]) => /^(PIP_|npm_config_|NODE_EXTRA_CA|SSL_CERT|LANG$)/i.test(key));
const python = execFileSync("python3", ["-c", "import sys; print(sys.base_prefix)"], { encoding: "utf8" }).trim();
const env = {
  ...Object.fromEntries(kept),
  HOME: home,
  PATH: `${join(python, "bin")}:${process.env.PATH}`,
  npm_config_cache: join(home, ".npm"),
};

const running = new Set(); // each in a process group of its own
let browser;

function end() {
  for (const { pid } of running) {
    try {
      process.kill(-pid, "SIGINT");
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
  }
}

async function within(limit, what, done) {
  for (const since = performance.now(); !(await done()); await new Promise((resolve) => setTimeout(resolve, 100)))
    if (seconds(since) > limit) throw new Error(`not within ${limit} s: ${what}`);
}

/** Runs a line; of one that serves it waits for the first answer. Gives back what it printed. */
async function run(command) {
  const stdio = ["ignore", "pipe", "pipe"];
  const child = spawn("bash", ["-c", command], { cwd: project, env, detached: true, stdio });
  running.add(child);
  child.on("exit", () => running.delete(child));
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const url = Object.entries(SERVES).find(([words]) => command.endsWith(words))?.[1];
  if (!url) {
    const limit = setTimeout(end, LIMIT * 1000);
    const code = await ended;
    clearTimeout(limit);
    if (code !== 0) throw new Error(`${command}\n${output}`);
    return output.trim();
  }
  await within(LIMIT, `${command}\n${output}`, async () => {
    if (child.exitCode !== null) throw new Error(`${command}\n${output}`);
    return fetch(url).then(
      ({ ok }) => ok,
      () => false,
    );
  });
}

try {
  if (!existsSync(CHROMIUM)) throw new Error("Chromium not found: install Debian's package chromium, or set CHROMIUM");
  let tab;
  for (const { file, code, command } of steps()) {
    const since = performance.now();
    if (file) {
      writeFileSync(join(project, file), code);
      continue;
    }
    const printed = await run(command.replaceAll("DIST", join(root, "dist")));
    console.log(`${seconds(since).toFixed(1).padStart(6)} s  ${command}`);
    if (command.startsWith("echo")) {
      browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
      tab = await browser.newPage();
      await tab.goto(printed);
      await tab.getByRole("heading", { name: "Orders (connected)" }).waitFor();
    }
  }
  await tab.getByText("7: placed by Bob").waitFor();
  console.log(`${seconds(began).toFixed(1).padStart(6)} s  from the empty folder to the message in Chromium`);
  await tab.getByRole("button", { name: "Confirm" }).click();
  await tab.getByText("7: confirmed by ann").waitFor();
  const load = loadavg()[0].toFixed(1);
  console.log(`         ${cpus().length} cores, load ${load}, Node.js ${process.version}, packages from the network`);
} finally {
  await browser?.close();
  end();
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
}
process.exit(0);
