/** Moves the end of a connection's right: asks for a new token in time, and ends what has become deaf. */
import type { ClientOptions } from "./client.ts";
import type { Connection } from "./connection.ts";
import { ask, readToken } from "./token.ts";

/**
 * A function that is told each time how many milliseconds are left.
 *
 * `rotate`: a second connection, opened with a new token, takes over.
 */
export function renewal(options: ClientOptions, current: () => Connection | undefined, rotate: () => void) {
  return function renew(connection: Connection, left: number) {
    /** How long before the end a new token is asked for; a quarter of the time if that is less. */
    const RENEW_BEFORE = 60_000;
    /** The last question comes no later than this before the end. */
    const LAST = 1_000;
    const { timers_: timers } = connection;
    const later = (milliseconds: number) => timers.start_("renew", milliseconds, again);
    connection.ends_ = Date.now() + left;
    timers.start_("end", left, () => connection.end_("token expired"));
    later(left - Math.min(left / 4, RENEW_BEFORE));

    async function again() {
      const { ends_: ends, token: old } = connection;
      const rest = Math.max(LAST, ends! - Date.now());
      // An application may renew its token as late as it likes: it is asked again, nearer the end.
      if (rest > 2 * LAST) later(rest / 2);
      // A ticket cannot be sent on a connection.
      if (options.sendTokenAs === "ticket") return rotate();
      const token = await ask(options, "getToken", timers, rest).catch(() => {});
      if (!token || token === old || connection !== current() || connection.ends_ !== ends) return;
      const fresh = readToken(`${token}`);
      if (fresh.user_ !== readToken(old).user_) return rotate();
      connection.ask_("auth:refresh", { token }, rest, (error) => {
        if (error) return rotate();
        connection.token = `${token}`;
        // A server that says when the new right ends has done so with this answer.
        if (connection.ends_ === ends && fresh.ends_) renew(connection, fresh.ends_ - Date.now());
      });
    }
  };
}
