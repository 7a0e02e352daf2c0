/**
 * Rooms: what the application wants, and what a connection is known to be in. Pure.
 *
 * The two are reconciled: `plan` says what to ask the server for until they are equal. At most one question
 * about a room is under way on a connection, since API Gateway keeps no order.
 */

/** What the application wants of one room, for as long as that is worth remembering. */
export interface Intent {
  wanted_: boolean;
  /** Once in it, a room that does not answer is tried again, not given up. */
  confirmed_?: boolean;
  /** Who waits to be in, and out. */
  entering_?: Waiting;
  leaving_?: Waiting;
}

/** What is known of one room on one connection; a room that it is not in has no fact. */
export type Fact =
  /** A question is under way. */
  | "asked"
  | "joined"
  /** No answer came: it may be in or out. */
  | "unknown";

export interface Waiting {
  promise_: Promise<any>;
  resolve_(value?: any): void;
  reject_(error: Error): void;
}

/** A promise that nobody has to await: whoever does not is not to be ended by it. */
export function quiet(start: ConstructorParameters<typeof Promise<any>>[0]): Promise<any> {
  const promise = new Promise<any>(start);
  promise.catch(() => {});
  return promise;
}

export function waiting(): Waiting {
  const own = {} as Waiting;
  own.promise_ = quiet((resolve, reject) => Object.assign(own, { resolve_: resolve, reject_: reject }));
  return own;
}

export type Verb = "join" | "leave";

/** What a connection is to be asked for now. A connection that is being replaced only leaves. */
export function plan(
  intents: ReadonlyMap<string, Intent>,
  facts: ReadonlyMap<string, Fact>,
  joins: boolean | undefined,
): [room: string, verb: Verb][] {
  const steps: [string, Verb][] = [];
  for (const [room, { wanted_: wanted }] of intents) {
    const fact = facts.get(room);
    const open = fact !== "asked";
    if (wanted ? joins && open && fact !== "joined" : open && fact) steps.push([room, wanted ? "join" : "leave"]);
  }
  return steps;
}
