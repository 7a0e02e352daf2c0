/**
 * Projects of other people's tools, each with the packed client in it. They are kept in build/matrix/, so that
 * only the first run waits for npm; a project whose dependencies have changed is installed anew.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { pack, type Packed, unpack } from "../pack.ts";

const matrix = join(import.meta.dirname, "..", "..", "..", "build", "matrix");
let packed: Packed | undefined;

export class Project {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Installs `dependencies` by exact version, then unpacks the client, and writes `files`. */
  static async make(
    name: string,
    dependencies: Record<string, string>,
    files: Record<string, string>,
    settings: object = {},
  ): Promise<Project> {
    const project = new Project(join(matrix, name));
    const manifest = JSON.stringify({ private: true, ...settings, dependencies });
    const path = join(project.folder, "package.json");
    const done = join(project.folder, "node_modules", ".installed");
    if (!existsSync(done) || readFileSync(done, "utf8") !== manifest) {
      rmSync(project.folder, { recursive: true, force: true });
      mkdirSync(project.folder, { recursive: true });
      writeFileSync(path, manifest);
      const quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline", "--loglevel=error"];
      if (Object.keys(dependencies).length) await project.run("npm", ["install", "--legacy-peer-deps", ...quiet]);
    }
    packed ??= pack(mkdtempSync(join(tmpdir(), "roomcast-")));
    unpack(packed, project.folder);
    writeFileSync(done, manifest);
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(dirname(project.path(file)), { recursive: true });
      writeFileSync(project.path(file), text);
    }
    return project;
  }

  path(file: string): string {
    return join(this.folder, file);
  }

  read(file: string): string {
    return readFileSync(this.path(file), "utf8");
  }

  /** Runs a program in the project and gives back what it prints; a failure carries both outputs. */
  async run(program: string, words: string[], env: Record<string, string> = {}): Promise<string> {
    const options = { cwd: this.folder, env: { ...clean(), ...env }, timeout: 240_000, maxBuffer: 1 << 26 };
    try {
      const { stdout, stderr } = await promisify(execFile)(program, words, options);
      return stdout + stderr;
    } catch (error: any) {
      throw new Error(
        `${program} ${words.join(" ")} in ${this.folder}:\n${error.stdout}\n${error.stderr}\n${error.message}`,
      );
    }
  }

  /** Starts Node with a program that serves; whoever starts it ends it. */
  start(words: string[]): ChildProcess {
    return spawn(process.execPath, words, { cwd: this.folder, env: clean(), stdio: "ignore" });
  }

  node(words: string[], env: Record<string, string> = {}): Promise<string> {
    return this.run(process.execPath, words, env);
  }
}

/** This process's environment without what the test runner has put in. */
function clean(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([key]) => !/^(VITEST|NODE_ENV|NODE_OPTIONS|npm_|VITE_|TEST|DEV|PROD|MODE|SSR)/.test(key),
    ),
  ) as Record<string, string>;
}
