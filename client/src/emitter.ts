/** Listeners by event name. */
type Listener = (data: any, envelope?: any) => unknown;

interface Entry {
  event: string;
  listener_: Listener;
  once_: boolean;
}

export function createEmitter() {
  let entries: Entry[] = [];
  const remove = (gone: (entry: Entry) => boolean) => {
    entries = entries.filter((entry) => !gone(entry));
  };
  const add = (once: boolean) => (event: string, listener: Listener) => {
    const own: Entry = { event, listener_: listener, once_: once };
    // A new array each time: an event that is being handed out goes to those who listened when it came.
    entries = [...entries, own];
    return () => remove((entry) => entry === own);
  };
  return {
    on: add(false),
    once: add(true),
    off: (event: string, listener?: Listener) =>
      remove((entry) => entry.event === event && (!listener || entry.listener_ === listener)),
    emit(event: string, data: unknown, envelope?: unknown) {
      for (const entry of entries) {
        if (entry.event !== event) continue;
        if (entry.once_) remove((other) => other === entry);
        // Whatever it is, and whenever it fails: an async function runs up to its first `await` at once.
        // The application's mistake is reported as its own, and stops neither the other listeners nor the client.
        (async () => entry.listener_(data, envelope))().catch(globalThis.reportError ?? console.error);
      }
    },
  };
}
