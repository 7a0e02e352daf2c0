/** `socket.io`: Socket.IO's manager, which knows of attempts to connect. Here each has one socket. */
import { refuse, REFUSED_MANAGER, REFUSED_MANAGER_EVENTS, refuseMembers } from "./io-api.ts";
import { call, Listeners, listening, type Listening } from "./io-listeners.ts";

export interface IoManager extends Listening {
  /** Connects; the function is called once, with an error if the first attempt fails. */
  open(done?: (error?: Error) => void): IoManager;
  connect(done?: (error?: Error) => void): IoManager;
  /** Without a value: the present one. */
  reconnection(): boolean;
  reconnection(value: boolean): IoManager;
  reconnectionAttempts(): number;
  reconnectionAttempts(value: number): IoManager;
}

export interface ManagerSettings {
  reconnection: boolean;
  reconnectionAttempts: number;
}

/** What the adapter tells the manager of. */
export interface Attempts {
  manager: IoManager;
  /** The application has called connect. */
  start(): void;
  /** An attempt begins. */
  begins(): void;
  failed(error: Error): void;
  opened(): void;
  closed(reason: string, details: object): void;
}

export function createManager(settings: ManagerSettings, connect: () => void, disconnect: () => void): Attempts {
  const listeners = new Listeners();
  let reconnects = 0;
  /** Whether the next attempt is a reconnect: an attempt has failed, or a connection was lost. */
  let again = false;

  const value =
    <Name extends keyof ManagerSettings>(name: Name) =>
    (given?: ManagerSettings[Name]): any => {
      if (given === undefined) return settings[name];
      settings[name] = given;
      return manager;
    };
  const open = (done?: (error?: Error) => void) => {
    if (done) {
      const settle = (...error: Error[]) => {
        listeners.remove("open", opened);
        listeners.remove("error", settle);
        call(done, ...error);
      };
      const opened = () => settle();
      listeners.add("open", opened);
      listeners.add("error", settle);
    }
    connect();
    return manager;
  };
  const check = (event: string) => {
    const refusal = REFUSED_MANAGER_EVENTS[event];
    if (refusal) refuse(`the event "${event}" of socket.io`, refusal);
  };
  const manager: IoManager = {
    ...(listening(() => manager, listeners, check) as Pick<IoManager, keyof Listening>),
    open,
    connect: open,
    reconnection: value("reconnection"),
    reconnectionAttempts: value("reconnectionAttempts"),
  };
  refuseMembers(manager, "socket.io", REFUSED_MANAGER);

  const reset = () => {
    reconnects = 0;
    again = false;
  };
  /** Goes on trying, or not: with `reconnection: false`, or after the last of the attempts. */
  const decide = () => {
    if (settings.reconnection && reconnects < settings.reconnectionAttempts) return;
    disconnect();
    reset();
    if (settings.reconnection) listeners.tell("reconnect_failed");
  };

  return {
    manager,
    start: reset,
    begins() {
      if (again) listeners.tell("reconnect_attempt", ++reconnects);
    },
    failed(error) {
      const wasReconnect = again;
      again = true;
      listeners.tell("error", error);
      if (wasReconnect) listeners.tell("reconnect_error", error);
      decide();
    },
    opened() {
      const attempts = reconnects;
      reset();
      listeners.tell("open");
      if (attempts) listeners.tell("reconnect", attempts);
    },
    closed(reason, details) {
      again = true;
      listeners.tell("close", reason, details);
      decide();
    },
  };
}
