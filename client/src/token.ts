/** What is known of a token without its key, and what the application is asked for. */
import type { ClientOptions } from "./client.ts";
import { RoomcastError } from "./protocol.ts";
import type { Timers } from "./timers.ts";

/** Whose a JWT is and when it ends (epoch milliseconds); nothing, of what is not a JWT. */
export function readToken(token: string): { user_?: string | undefined; ends_?: number } {
  try {
    const claims = JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/")));
    const user = claims.userId ?? claims.sub ?? claims.id;
    return { user_: user?.toString(), ends_: claims.exp * 1_000 };
  } catch {
    return {};
  }
}

/** A text that is made to be shown or logged, without the token that may be in it. */
export function scrub(text: unknown, token = ""): string {
  const clean = `${text}`.replace(/eyJ[\w-]+\.[\w.-]*/g, "[token]");
  return token[7] ? clean.split(token).join("[token]") : clean;
}

export const NO_REASON = "no reason";

/** What a thrown value says; an application may throw anything. */
export function message(thrown: any): string {
  const said = thrown?.message ?? thrown;
  return typeof said === "string" ? said : NO_REASON;
}

/** How long an application's answer may take, in milliseconds. */
const LIMIT = 30_000;
let questions = 0;

/** Asks the application, and gives up after some time: it may throw anything, or never answer. */
export function ask<Name extends "url" | "getToken">(
  options: ClientOptions,
  name: Name,
  timers: Timers,
  milliseconds = LIMIT,
): Promise<unknown> {
  const timer = `?${++questions}`;
  return new Promise((resolve, reject) => {
    timers.start_(timer, milliseconds, () =>
      reject(new RoomcastError("timeout", `${name}: no reply in ${milliseconds} ms`)),
    );
    const value = async () => (typeof options[name] === "function" ? (options as any)[name]() : options[name]);
    value()
      .then(resolve, reject)
      .then(() => timers.stop_(timer));
  });
}

/** The address with what is to be added to it, or one clear line about what is wrong. */
export function address(url: unknown, ...parameters: (string | false)[]): string {
  let whole = `${url}`.replace(/^http/, "ws");
  if (!/^wss?:\/\/[^\s"'#]+$/i.test(whole)) {
    throw new TypeError(`the url ${scrub(url)} is not wss://...`);
  }
  for (const parameter of parameters) if (parameter) whole += (whole.includes("?") ? "&" : "?") + parameter;
  return whole;
}
