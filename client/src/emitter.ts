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
  let entries: { event: string; listener: Listener; once: boolean }[] = [];
  const remove = (gone: (entry: (typeof entries)[number]) => boolean) => {
    entries = entries.filter((entry) => !gone(entry));
  };
  return {
    on(event, listener, once = false) {
      const own = { event, listener, once };
      // A new array each time: an event that is being handed out goes to those who listened when it came.
      entries = [...entries, own];
      return () => remove((entry) => entry === own);
    },
    off: (event, listener) => remove((entry) => entry.event === event && (!listener || entry.listener === listener)),
    emit(event, data, envelope) {
      for (const entry of entries) {
        if (entry.event !== event) continue;
        if (entry.once) remove((other) => other === entry);
        try {
          // A listener may be an async function.
          (entry.listener(data, envelope) as PromiseLike<unknown> | undefined)?.then?.(undefined, report);
        } catch (error) {
          report(error);
        }
      }
    },
  };
}
