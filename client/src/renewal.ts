/** Moves the end of a connection's right: asks for a new token in time, and ends what has become deaf. */
import { frame } from "./connection.ts";
import type { Line } from "./session.ts";
import type { Timers } from "./timers.ts";
import { readToken } from "./token.ts";

/** How long before the end a new token is asked for; a quarter of the time if that is less. */
const RENEW_BEFORE = 60_000;
const REPLY_TIMEOUT = 10_000;
/** The last question comes no later than this before the end. */
const LAST = 1_000;

interface World {
  askToken(timers: Timers, milliseconds: number): Promise<unknown>;
  /** A second connection, opened with a new token, takes over. */
  rotate(): void;
  isCurrent(line: Line): boolean;
  /** A credential that cannot be refreshed on the connection. */
  handover(): boolean;
}

/** A function that is told each time how many milliseconds are left. */
export function renewal({ askToken, rotate, isCurrent, handover }: World) {
  return function renew(line: Line, left: number) {
    const { connection } = line;
    const { timers } = connection;
    timers.start("end", left, () => connection.end("the token has expired", 0));
    later(left - Math.min(left / 4, RENEW_BEFORE));

    function later(milliseconds: number) {
      timers.start("renew", milliseconds, () => void again());
    }

    async function again() {
      if (!isCurrent(line)) return;
      const ends = line.ends!;
      const rest = ends - Date.now();
      // An application may renew its token as late as it likes: it is asked again, nearer the end.
      if (rest / 2 > LAST) later(rest / 2);
      if (handover()) return rotate();
      try {
        const token = `${(await askToken(timers, Math.max(LAST, rest))) || ""}`;
        if (!token || token === line.token || !isCurrent(line) || line.ends !== ends) return;
        const before = readToken(line.token);
        const after = readToken(token);
        if (before.user !== after.user) return rotate();
        connection.request({
          frame: frame("auth:refresh", { token }),
          timeout: Math.min(REPLY_TIMEOUT, Math.max(LAST, rest)),
          quiet: true,
          urgent: true,
          done(error) {
            if (error) return rotate();
            line.token = token;
            // A server that says when the new right ends has done so with this answer.
            if (line.ends === ends && after.ends && before.ends) {
              line.ends = ends + after.ends - before.ends;
              renew(line, line.ends - Date.now());
            }
          },
        });
      } catch {
        // Asked again nearer the end.
      }
    }
  };
}
