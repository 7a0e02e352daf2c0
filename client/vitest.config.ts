import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    // The tests against real processes are run by pytest, which starts those processes.
    exclude: ["test/real/**", "node_modules/**"],
    restoreMocks: true,
    testTimeout: 60_000,
    unstubGlobals: true,
    maxWorkers: 2,
  },
});
