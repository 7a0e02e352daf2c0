// What a bundler replaces. Not shipped: the types of Vite's own `import.meta.env` stay as they are.
interface ImportMeta {
  readonly env?: Record<string, string | undefined>;
}
