/**
 * Builds the package: ES modules in dist/, and CommonJS in dist/cjs/ for what cannot read those (Jest, webpack 4,
 * TypeScript's `moduleResolution: node`, `require` before Node 20.19). The folders io/, presence/, publish/, react/,
 * resume/, socket/ and testing/ beside it lead resolvers that do not know `exports` to the latter.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");
rmSync("dist", { recursive: true, force: true });
for (const project of ["tsconfig.build.json", "tsconfig.cjs.json"]) {
    execFileSync(process.execPath, [tsc, "-p", project], { stdio: "inherit" });
}
writeFileSync("dist/cjs/package.json", '{ "type": "commonjs" }\n');

/** Changes every match of a pattern in a built file, and fails when there is none to change. */
function rewrite(path, pattern, replacement) {
    const text = readFileSync(path, "utf8");
    const changed = text.replace(pattern, replacement);
    if (changed === text) throw new Error(`${path} has nothing that matches ${pattern}: build.mjs is out of date`);
    writeFileSync(path, changed);
}
/**
 * Gives short names to the properties that end in `_`, which are the package's own. No bundler may do that: it cannot
 * know them from those that an application reads. It saves 6 % of the core.
 */
function shorten(paths) {
    const texts = paths.map((path) => readFileSync(path, "utf8"));
    const counts = {};
    const own = /\b[a-z][a-zA-Z]*_\b/g;
    for (const [name] of texts.flatMap((text) => [...text.matchAll(own)])) counts[name] = (counts[name] ?? 0) + 1;
    const names = Object.keys(counts).sort((a, b) => counts[b] - counts[a]);
    // The order in which minifiers name variables: what is the same is smaller.
    const letters = "etnriaoscludfphmgvybxwkjqzETNRIAOSCLUDFPHMGVYBXWKJQZ";
    const short = (index) => letters[index] ?? `_${letters[index - letters.length]}`;
    for (const [index, path] of paths.entries()) {
        writeFileSync(
            path,
            texts[index].replace(own, (name) => short(names.indexOf(name))),
        );
    }
}
shorten(
    ["dist", "dist/cjs"].flatMap((folder) =>
        readdirSync(folder)
            .filter((name) => name.endsWith(".js"))
            .map((name) => join(folder, name)),
    ),
);
// `import.meta` is a syntax error in CommonJS. Only Vite fills it in, and Vite takes the ES modules.
rewrite("dist/cjs/socket.js", /import\.meta\.env/g, "undefined");
// TypeScript rewrites the extension of an import in the code, but not in the declarations.
for (const folder of ["dist", "dist/cjs"]) {
    for (const name of readdirSync(folder).filter((name) => name.endsWith(".d.ts"))) {
        const text = readFileSync(join(folder, name), "utf8");
        writeFileSync(join(folder, name), text.replace(/(["'])(\.\/[\w-]+)\.ts\1/g, "$1$2.js$1"));
    }
}
