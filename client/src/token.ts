/** What is known of a token without its key, and what the application is asked for. */
import { RoomcastError } from "./protocol.ts";
import type { Timers } from "./timers.ts";

/** Whose a JWT is and when it ends (epoch milliseconds); nothing, of what is not a JWT. */
export function readToken(token: string): { user?: string; ends?: number } {
  try {
    const claims = JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/")));
    const user = claims.userId ?? claims.sub ?? claims.id;
    return { ...(user != null && { user: `${user}` }), ...(claims.exp > 0 && { ends: claims.exp * 1_000 }) };
  } catch {
    return {};
  }
}

/** A text that is made to be shown or logged, without the token that may be in it. */
export function scrub(text: unknown, token?: string): string {
  let clean = `${text}`;
  for (const secret of token && token.length > 7 ? [token, encodeURIComponent(token)] : [])
    clean = clean.split(secret).join("[token]");
  return clean.replace(/eyJ[\w-]+\.[\w.-]*/g, "[token]");
}

/** What a thrown value says; an application may throw anything. */
export function message(thrown: any): string {
  try {
    return `${thrown.message ?? thrown}`;
  } catch {
    return "it failed without a reason";
  }
}

let questions = 0;

/** Asks the application, and gives up after some time: it may throw anything, or never answer. */
export function ask<T>(
  question: () => T | PromiseLike<T>,
  name: string,
  timers: Timers,
  milliseconds: number,
): Promise<T> {
  const timer = `${name} ${++questions}`;
  return new Promise<T>((resolve, reject) => {
    timers.start(timer, milliseconds, () =>
      reject(new RoomcastError("timeout", `${name} has not answered within ${milliseconds / 1_000} s`)),
    );
    new Promise<T>((settle) => settle(question())).then(resolve, reject).then(() => timers.stop(timer));
  });
}

/** The address with what is to be added to it, or one clear line about what is wrong. */
export function address(url: unknown, ...parameters: (string | false)[]): string {
  if (!url) throw new TypeError("there is no url: it is the wss:// address of the backend");
  let whole = `${url}`.replace(/^http/, "ws");
  if (!/^wss?:\/\/[^\s"'#]+$/i.test(whole)) {
    throw new TypeError(`the url ${scrub(url)} is not wss://..., or it holds quotes, spaces or "#"`);
  }
  for (const parameter of parameters) if (parameter) whole += (whole.includes("?") ? "&" : "?") + parameter;
  return whole;
}
