import { defineConfig } from "vitest/config";

/** The tests against the real local run, in Node and in Chromium. `make setup` comes first. */
export default defineConfig({
  test: {
    include: ["test/real/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // One file after the other: each has a whole stack of its own, on a machine that may have two cores.
    fileParallelism: false,
  },
});
