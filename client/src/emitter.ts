/** Listeners by event name. */
type Listener = (data: any, envelope?: any) => unknown;

export interface Emitter {
  on(event: string, listener: Listener, once?: boolean): () => void;
  off(event: string, listener?: Listener): void;
  emit(event: string, data: unknown, envelope?: unknown): void;
}

/** The application's mistake is reported as its own, and stops neither the other listeners nor the client. */
export function report(error: unknown): void {
  const { reportError } = globalThis as { reportError?: (error: unknown) => void };
  if (reportError) reportError(error);
  else console.error(error);
}

export function createEmitter(): Emitter {
  const entries: Record<string, { listener: Listener; once: boolean }[]> = Object.create(null);
  const remove = (event: string, gone: (entry: { listener: Listener }) => boolean) => {
    entries[event] = entries[event]?.filter((entry) => !gone(entry)) ?? [];
  };
  return {
    on(event, listener, once = false) {
      const own = { listener, once };
      (entries[event] ??= []).push(own);
      return () => remove(event, (entry) => entry === own);
    },
    off: (event, listener) => remove(event, (entry) => !listener || entry.listener === listener),
    emit(event, data, envelope) {
      for (const entry of [...(entries[event] ?? [])]) {
        if (entry.once) remove(event, (other) => other === entry);
        try {
          // A listener may be an async function.
          const result = entry.listener(data, envelope) as PromiseLike<unknown> | undefined;
          if (typeof result?.then === "function") result.then(undefined, report);
        } catch (error) {
          report(error);
        }
      }
    },
  };
}
