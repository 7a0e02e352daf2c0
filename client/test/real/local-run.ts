/** Starts what `make dev` starts, and the `roomcast` command beside it. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const root = join(import.meta.dirname, "..", "..", "..");
const roomcast = join(root, ".venv", "bin", "roomcast");

export class LocalRun {
  readonly port: number;
  private readonly folder = mkdtempSync(join(tmpdir(), "roomcast-run-"));
  private process: ChildProcess | undefined;
  private output = "";

  private readonly project: string;

  private constructor(port: number, project: string) {
    this.port = port;
    this.project = project;
  }

  /** The stage of this repository, or of another CDK project. */
  static async start(project = root): Promise<LocalRun> {
    const run = new LocalRun(await freePort(), project);
    await run.start();
    return run;
  }

  get url(): string {
    return `ws://localhost:${this.port}`;
  }

  get page(): string {
    return `http://localhost:${this.port}/`;
  }

  /** What a backend's `.env` holds. */
  get environment(): Record<string, string> {
    return Object.fromEntries(
      [...readFileSync(this.envFile, "utf8").matchAll(/^(\w+)=(.*)$/gm)].map(([, key, value]) => [key, value]),
    );
  }

  private get envFile(): string {
    return join(this.folder, "env");
  }

  async start(): Promise<void> {
    this.process = spawn(roomcast, ["dev", "--port", `${this.port}`, "--env-file", this.envFile], {
      cwd: this.project,
      env: { ...process.env, PATH: `${join(root, ".venv", "bin")}:${process.env.PATH}` },
    });
    for (const stream of [this.process.stdout!, this.process.stderr!])
      stream.on("data", (text) => (this.output += text));
    for (let tries = 0; tries < 600; tries++) {
      if (this.process.exitCode !== null) break;
      const up = await fetch(this.page).then(
        ({ ok }) => ok,
        () => false,
      );
      if (up) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`roomcast dev did not start:\n${this.output}`);
  }

  /** As Ctrl-C does. */
  async stop(): Promise<void> {
    const { process } = this;
    if (!process || process.exitCode !== null) return;
    const ended = new Promise((resolve) => process.once("exit", resolve));
    process.kill("SIGINT");
    await ended;
  }

  async end(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true });
  }

  /** Runs the `roomcast` command on this stack, and gives back what it prints. */
  async command(...words: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(roomcast, [...words, "--env-file", this.envFile], {
      cwd: this.project,
    });
    return stdout.trim();
  }

  token(user: string, role: "admin" | "user" = "user", ttl = 3600): Promise<string> {
    return this.command("token", "--user", user, "--role", role, "--ttl", `${ttl}`);
  }

  /** Runs Python as a backend of this stack does, and gives back what it prints. */
  async python(code: string): Promise<string> {
    const env = { ...process.env, ...this.environment };
    const { stdout } = await promisify(execFile)(join(root, ".venv", "bin", "python"), ["-c", code], { env });
    return stdout.trim();
  }

  /** A token as a backend of any language signs it, without waiting for a command. */
  sign(userId: string, ttl: number): string {
    const secret = this.environment.JWT_SECRET!;
    const now = Math.floor(Date.now() / 1000);
    const text = [
      { alg: "HS256", typ: "JWT" },
      { userId, iat: now, exp: now + ttl },
    ]
      .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
      .join(".");
    return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
  }

  /** A send by the demo page's own way, which is quicker than a command. */
  async send(to: "user" | "room" | "all", target: string, event: string, data: unknown): Promise<{ sent: number }> {
    const response = await fetch(`${this.page}_demo/send`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ to, target, event, data }),
    });
    if (!response.ok) throw new Error(await response.text());
    return (await response.json()) as { sent: number };
  }
}

/** A port that nobody listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

export async function until(condition: () => unknown, what: string, timeout = 20_000): Promise<void> {
  for (const end = Date.now() + timeout; !condition(); await new Promise((resolve) => setTimeout(resolve, 20))) {
    if (Date.now() > end) throw new Error(`not within ${timeout} ms: ${what}`);
  }
}
