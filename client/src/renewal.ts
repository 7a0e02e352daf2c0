/** Moves the end of a connection's right: asks for a new token in time, and ends what has become deaf. */
import { type Connection, frame } from "./connection.ts";
import type { Timers } from "./timers.ts";
import { readToken } from "./token.ts";

/** How long before the end a new token is asked for; a quarter of the time if that is less. */
const RENEW_BEFORE = 60_000;
/** The last question comes no later than this before the end. */
const LAST = 1_000;

interface World {
  askToken(timers: Timers, milliseconds: number): Promise<unknown>;
  /** A second connection, opened with a new token, takes over. */
  rotate(): void;
  isCurrent(connection: Connection): boolean;
  /** A credential that cannot be refreshed on the connection. */
  handover(): boolean;
}

/** A function that is told each time how many milliseconds are left. */
export function renewal({ askToken, rotate, isCurrent, handover }: World) {
  return function renew(connection: Connection, left: number) {
    const { timers } = connection;
    const later = (milliseconds: number) => timers.start("renew", milliseconds, () => void again());
    timers.start("end", left, () => connection.end("the token has expired", 0));
    later(left - Math.min(left / 4, RENEW_BEFORE));

    async function again() {
      const { ends, token: old } = connection;
      const rest = Math.max(LAST, ends! - Date.now());
      // An application may renew its token as late as it likes: it is asked again, nearer the end.
      if (rest > 2 * LAST) later(rest / 2);
      if (handover()) return rotate();
      const token = await askToken(timers, rest).catch(() => {});
      if (!token || token === old || !isCurrent(connection) || connection.ends !== ends) return;
      const [before, after] = [readToken(old), readToken(`${token}`)];
      if (before.user !== after.user) return rotate();
      connection.request({
        ...frame("auth:refresh", { token }),
        timeout: rest,
        quiet: true,
        urgent: true,
        done(error) {
          if (error) return rotate();
          connection.token = `${token}`;
          // A server that says when the new right ends has done so with this answer.
          if (connection.ends !== ends || !after.ends || !before.ends) return;
          connection.ends = ends! + after.ends - before.ends;
          renew(connection, connection.ends - Date.now());
        },
      });
    }
  };
}
