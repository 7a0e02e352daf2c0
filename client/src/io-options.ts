/** The options of `io()`: each is honoured, or refused with what to do instead. */
import type { ClientOptions } from "./client.ts";
import { refuse, REFUSED_OPTIONS } from "./io-api.ts";
import { address } from "./token.ts";

export type Auth = { token?: string };

export interface IoOptions extends Partial<Omit<ClientOptions, "url" | "getToken">> {
  /** As in Socket.IO: an object, or a function that is asked before every attempt. `socket.auth` can also be set later. */
  auth?: Auth | ((callback: (auth: Auth) => void) => void);
  /** Added to the URL. */
  query?: Record<string, string | number | boolean>;
  /** `false`: the first failure, or the first lost connection, is the end. */
  reconnection?: boolean;
  /** After this many failed reconnects in a row the socket gives up: never, by default. */
  reconnectionAttempts?: number;
  /** Milliseconds: every acknowledgement gets an error first, as with `timeout()`. */
  ackTimeout?: number;
  /** No effect, as the rest: each `io()` has a connection of its own, a WebSocket. */
  forceNew?: boolean;
  multiplex?: boolean;
  forceBase64?: boolean;
  rememberUpgrade?: boolean;
  requestTimeout?: number;
  timestampParam?: string;
  timestampRequests?: boolean;
  tryAllTransports?: boolean;
  upgrade?: boolean;
}

/** Every option that is taken; the compiler holds this against the type. `client`: the client itself takes it. */
const OPTIONS: Record<keyof IoOptions, "client" | "here" | "nowhere"> = {
  ackTimeout: "here",
  auth: "here",
  autoConnect: "here",
  forceBase64: "nowhere",
  forceNew: "nowhere",
  keepalive: "client",
  maxRefusals: "client",
  multiplex: "nowhere",
  query: "here",
  queueLimit: "client",
  reconnection: "here",
  reconnectionAttempts: "here",
  reconnectWindow: "client",
  resume: "client",
  rememberUpgrade: "nowhere",
  replyTimeout: "client",
  requestTimeout: "nowhere",
  sendTokenAs: "client",
  timestampParam: "nowhere",
  timestampRequests: "nowhere",
  tryAllTransports: "nowhere",
  upgrade: "nowhere",
  WebSocket: "client",
};

/** The options, after a look at each. */
export function checked(options: IoOptions): IoOptions {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || name in OPTIONS) continue;
    const refusal = REFUSED_OPTIONS[name];
    if (!refusal) throw new TypeError(`roomcast/io does not know the option "${name}"`);
    if (!refusal.harmless?.(value)) refuse(`the option "${name}"`, refusal);
  }
  return options;
}

/** The options of the client itself. */
export function passed(options: IoOptions): Partial<ClientOptions> {
  const given = Object.entries(options).filter(
    ([name, value]) => OPTIONS[name as keyof IoOptions] === "client" && value !== undefined,
  );
  return Object.fromEntries(given) as Partial<ClientOptions>;
}

/** The address to connect to, or what is wrong with the arguments. */
export function addressOf(url: unknown, query: IoOptions["query"] = {}): string {
  if (typeof url !== "string" || url.startsWith("/")) {
    const why = typeof url === "string" ? "there are no namespaces, and no default URL" : "there is no URL";
    throw new TypeError(`${why}: call io("wss://host/stage", { auth: { token } })`);
  }
  const parameters = Object.entries(query).map(([name, value]) => {
    if (/^(token|ticket)$/.test(name)) {
      throw new TypeError(`give the ${name} with \`auth: { token }\`, not with \`query\``);
    }
    return `${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
  });
  return address(url, ...parameters);
}

/** The token of `auth`, whichever kind it is. */
export async function tokenOf(auth: IoOptions["auth"]): Promise<string | undefined> {
  const given = typeof auth === "function" ? await new Promise<Auth>((resolve) => auth(resolve)) : auth;
  const others = Object.keys(given ?? {}).filter((name) => name !== "token");
  if (others.length) {
    throw new TypeError(`auth holds more than the token (${others.join(", ")}): put that into the token's claims`);
  }
  return given?.token;
}
