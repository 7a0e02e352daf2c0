/** The client: one connection that stays, told in three states. */
import type { WebSocketClass } from "./connection.ts";
import {
  type ActionMap,
  type ClientEvents,
  type Envelope,
  type Joined,
  type ProtocolActions,
  type ProtocolEvents,
  type Room,
  type State,
} from "./protocol.ts";
import type { Resume, ResumeCalls } from "./resume.ts";
import { createSession } from "./session.ts";

export interface ClientOptions {
  /** `wss://...`, or a function that is asked before every attempt. */
  url: string | (() => string | Promise<string>);
  /**
   * Asked before every attempt, and again before the token ends; it has 30 seconds.
   * Nothing (`null`, `undefined`, `""`) means: not logged in.
   */
  getToken: () => string | null | undefined | Promise<string | null | undefined>;
  /**
   * How it travels: `token`, the default, as `?token=`; `ticket`, a one-time ticket of the backend as `?ticket=`;
   * `subprotocol`, beside `landinghub.v1` in `Sec-WebSocket-Protocol`, which keeps it out of URLs.
   */
  sendTokenAs?: "token" | "ticket" | "subprotocol";
  /** Where there is no global WebSocket, or a test wants another. */
  WebSocket?: WebSocketClass;
  /** `false`: nothing happens before `connect()`. */
  autoConnect?: boolean;
  /** Milliseconds to wait for a reply, and at most as long again for a connection to send over: 10,000. */
  replyTimeout?: number;
  /** How many actions wait while there is no connection, 100; the next one is refused with `queue_full`. */
  queueLimit?: number;
  /**
   * Milliseconds over which this stage's clients spread their reconnects. Without it the server says how many: a lone
   * client is back within a second, and 100,000 stay under API Gateway's 500 connects a second.
   */
  reconnectWindow?: number;
  /** After so many refused handshakes in a row the server is asked whether it is the token: 3. `Infinity`: never. */
  maxRefusals?: number;
  /**
   * Milliseconds without traffic after which a ping is sent. Without it: 9 minutes, and less where the network turns
   * out to forget idle connections sooner.
   */
  keepalive?: number;
  /** `resume` of `roomcast/resume`: nothing of a room with history is lost between two connections. */
  resume?: Resume;
}

/** What `roomcast contract` writes from an application's declarations. */
export interface Contract {
  rooms: string;
  actions: object;
  events: object;
  /** Of the events, those that clients may publish. */
  publish?: object;
}

/** A client of a contract, or of an application's own events and actions. */
export type ClientOf<Events extends object, Actions extends object> = Events extends Contract
  ? Client<
      Events["events"],
      Events["actions"],
      ProtocolEvents & ClientEvents & Events["events"],
      ProtocolActions & Events["actions"],
      Events["rooms"],
      NonNullable<Events["publish"]>
    >
  : Client<Events, Actions>;
type RoomOf<Events extends object> = Events extends Contract ? Events["rooms"] : Room;

/** The application's own events are added to the protocol's; by default every name is allowed. */
export interface Client<
  Events extends object = Record<string, unknown>,
  Actions extends object = ActionMap,
  AllEvents = ProtocolEvents & ClientEvents & Events,
  AllActions = ProtocolActions & Actions,
  Rooms extends string = Room,
  Publishes = Record<string, unknown>,
> {
  readonly state: State;
  readonly connected: boolean;
  /** The rooms that are wanted: joined, being joined, or joined again as soon as there is a connection. */
  readonly rooms: Rooms[];
  /** Those of them that the connection is in. */
  readonly joined: Rooms[];
  /** Not there: the types of what `publish` takes. */
  readonly publishes?: Publishes;
  connect(): void;
  /** Closes the connection and forgets the rooms; whatever waits for a reply is rejected. Listeners stay. */
  disconnect(): void;
  on<E extends keyof AllEvents & string>(
    event: E,
    listener: (data: AllEvents[E], envelope: Envelope<AllEvents[E]>) => void,
  ): () => void;
  once<E extends keyof AllEvents & string>(
    event: E,
    listener: (data: AllEvents[E], envelope: Envelope<AllEvents[E]>) => void,
  ): () => void;
  /** Without a listener: all of that event. */
  off<E extends keyof AllEvents & string>(event: E, listener?: (data: AllEvents[E], envelope: any) => void): void;
  /**
   * Resolves with the reply's data. Carried out at most once: what may have been carried out is not repeated after a
   * lost connection. Sent in the stage's pace, and again when the server says `rate_limited`. `id` is the action's, for
   * those that the server knows again by it; without it each action has its own.
   */
  send<A extends keyof AllActions & string>(
    action: A,
    data?: AllActions[A] extends { data: infer Data } ? Data : never,
    id?: string,
  ): Promise<AllActions[A] extends { reply: infer Reply } ? Reply : unknown>;
  /** Resolves when the connection is in the room, which from then on is joined again after every reconnect. */
  join(room: Rooms): Promise<Joined>;
  /** Resolves when the connection is out of the room. */
  leave(room: Rooms): Promise<void>;
}

/**
 * Makes a client, and lets it connect: `createClient<Contract>(...)` with the types of an application's contract, or
 * `createClient<Events, Actions>(...)`. Its options are read whenever they are needed.
 */
export const createClient = createSession as {
  <Events extends object = Record<string, unknown>, Actions extends object = ActionMap>(
    options: ClientOptions & { resume: Resume },
  ): ClientOf<Events, Actions> & ResumeCalls<RoomOf<Events>>;
  <Events extends object = Record<string, unknown>, Actions extends object = ActionMap>(
    options: ClientOptions,
  ): ClientOf<Events, Actions>;
};
