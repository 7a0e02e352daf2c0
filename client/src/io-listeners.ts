/** Listeners with the names and the rules of Socket.IO's emitter. */

export type Listener = (...values: any[]) => unknown;

/** Listeners by the name of their event, as an application's types have them. */
export type EventsMap = Record<string, any>;
/** Any event, with any values. */
export type AnyEvents = Record<string, Listener>;

export interface Listening<Events extends EventsMap = AnyEvents> {
  on<Event extends keyof Events & string>(event: Event, listener: Events[Event]): this;
  once<Event extends keyof Events & string>(event: Event, listener: Events[Event]): this;
  /** Without a listener: all of that event; without an event: all of every event. */
  off<Event extends keyof Events & string>(event?: Event, listener?: Events[Event]): this;
  listeners(event: string): Listener[];
  hasListeners(event: string): boolean;
  addEventListener<Event extends keyof Events & string>(event: Event, listener: Events[Event]): this;
  removeListener<Event extends keyof Events & string>(event?: Event, listener?: Events[Event]): this;
  removeEventListener<Event extends keyof Events & string>(event?: Event, listener?: Events[Event]): this;
  removeAllListeners<Event extends keyof Events & string>(event?: Event, listener?: Events[Event]): this;
}

/** Calls the application. What it throws is reported, and stops neither the other listeners nor the client. */
export function call(listener: Listener, ...values: unknown[]): void {
  (async () => listener(...values))().catch(globalThis.reportError ?? console.error);
}

export class Listeners {
  private entries: { event: string; listener: Listener; once: boolean }[] = [];

  add(event: string, listener: Listener, once = false, first = false): void {
    if (typeof listener !== "function") throw new TypeError(`the listener of "${event}" is not a function`);
    this.entries = [...this.entries];
    this.entries[first ? "unshift" : "push"]({ event, listener, once });
  }

  remove(event?: string, listener?: Listener): void {
    const goes = (entry: { event: string; listener: Listener }) =>
      (event === undefined || entry.event === event) && (!listener || entry.listener === listener);
    this.entries = this.entries.filter((entry) => !goes(entry));
  }

  of(event: string): Listener[] {
    return this.entries.filter((entry) => entry.event === event).map(({ listener }) => listener);
  }

  tell(event: string, ...values: unknown[]): void {
    const now = this.entries.filter((entry) => entry.event === event);
    this.entries = this.entries.filter((entry) => !(entry.once && now.includes(entry)));
    for (const { listener } of now) call(listener, ...values);
  }
}

/** The emitter's methods over some listeners, for an object that returns itself. */
export function listening<Self>(self: () => Self, listeners: Listeners, check: (event: string) => void) {
  const add = (once: boolean) => (event: string, listener: Listener) => {
    check(event);
    listeners.add(event, listener, once);
    return self();
  };
  const remove = (event?: string, listener?: Listener) => {
    listeners.remove(event, listener);
    return self();
  };
  return {
    on: add(false),
    once: add(true),
    off: remove,
    listeners: (event: string) => listeners.of(event),
    hasListeners: (event: string) => listeners.of(event).length > 0,
    addEventListener: add(false),
    removeListener: remove,
    removeEventListener: remove,
    removeAllListeners: remove,
  };
}
