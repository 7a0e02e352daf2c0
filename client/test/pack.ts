/** The package as npm would publish it: packed from dist/, and unpacked into a project as an install would do. */
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const client = join(import.meta.dirname, "..");

export interface Packed {
  tarball: string;
  /** Paths inside the package, sorted. */
  files: string[];
}

/** Packs what `npm run build` has built, into a folder. */
export function pack(folder: string): Packed {
  const words = ["pack", "--json", "--ignore-scripts", "--pack-destination", folder];
  const answer = JSON.parse(execFileSync("npm", words, { cwd: client, encoding: "utf8" }));
  // npm 11 answers with a list, npm 12 with an object by package name.
  const [packed] = Object.values<any>(answer);
  return {
    tarball: join(folder, packed.filename),
    files: packed.files.map(({ path }: { path: string }) => path).sort(),
  };
}

/** Puts the package into a project. It has no dependencies, so that unpacking it is all that npm would do. */
export function unpack({ tarball }: Packed, project: string): void {
  const folder = join(project, "node_modules", "roomcast");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  execFileSync("tar", ["-xzf", tarball, "--strip-components=1", "-C", folder]);
}
