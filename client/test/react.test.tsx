// @vitest-environment happy-dom
import { act, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, expectTypeOf, test, vi } from "vitest";
import { type Client, createClient, type Room } from "../src/index.ts";
import { useConnectionState, useEvent, useRoom } from "../src/react.ts";
import { envelope, FakeServer, forbidden, reply, FakeStreams } from "../src/testing.ts";
import { resume } from "../src/resume.ts";

let server: FakeServer;
let client: Client;
let root: Root;
let page: HTMLElement;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
  server = new FakeServer();
  client = createClient({ url: "wss://example.test", getToken: () => "t", WebSocket: server.WebSocket });
  page = document.createElement("div");
  root = createRoot(page);
});
afterEach(async () => {
  await act(async () => root.unmount());
  client.disconnect();
  vi.useRealTimers();
});
const pass = (milliseconds: number) => act(() => vi.advanceTimersByTimeAsync(milliseconds));
const render = (element: React.ReactNode) => act(async () => root.render(<StrictMode>{element}</StrictMode>));

test("useConnectionState renders each state", async () => {
  const View = () => useConnectionState(client);
  await render(<View />);
  expect(page.textContent).toBe("connecting");
  await pass(10);
  expect(page.textContent).toBe("connected");
  await act(async () => client.disconnect());
  expect(page.textContent).toBe("disconnected");
});

test("useEvent calls the listener of the latest render, once each, until the component goes", async () => {
  const heard: string[] = [];
  const View = ({ name }: { name: string }) => {
    useEvent(client, "a", (data) => heard.push(`${name} ${data}`));
    return null;
  };
  await render(<View name="first" />);
  await pass(10);
  server.say("a", 1);
  await render(<View name="second" />);
  server.say("a", 2);
  await render(null);
  server.say("a", 3);
  expect(heard).toEqual(["first 1", "second 2"]);
});

test("useRoom joins once, says so, and the last component to go leaves", async () => {
  const View = ({ room }: { room: Room | null }) => `${useRoom(client, room).joined} `;
  await render(<View room="dashboard" />);
  expect(page.textContent).toBe("false ");
  await pass(10);
  expect(page.textContent).toBe("true ");
  await render([<View key="1" room="dashboard" />, <View key="2" room="dashboard" />]);
  await pass(10);
  await render([<View key="2" room="dashboard" />]);
  await pass(10);
  expect(page.textContent).toBe("true ");
  expect(server.last.actions).toEqual(["dashboard:join"]);
  await render([<View key="2" room={null} />]);
  await pass(10);
  expect(page.textContent).toBe("false ");
  expect(server.last.actions).toEqual(["dashboard:join", "dashboard:leave"]);
});

test("useRoom says why it is not in the room", async () => {
  server.answer = forbidden;
  const View = () => useRoom(client, "chat_room_1").error?.code ?? "none";
  await render(<View />);
  await pass(20);
  expect(page.textContent).toBe("forbidden");
});

/** What useRoom says, as text. */
const Room = ({ client: own = client, room = "dashboard" }: { client?: Client | null; room?: Room | null }) => {
  const { wanted, joined, recovered, error } = useRoom(own, room);
  return [wanted && "wanted", joined && "joined", recovered && "recovered", error?.code].filter(Boolean).join(" ");
};

test("a logout and a login: not joined while away, and joined again afterwards", async () => {
  await render(<Room />);
  await pass(10);
  expect(page.textContent).toBe("wanted joined recovered");
  await act(async () => client.disconnect());
  expect(page.textContent).toBe("");
  await act(async () => client.connect());
  expect(page.textContent).toBe("wanted");
  await pass(10);
  expect(page.textContent).toBe("wanted joined");
  expect(server.last.actions).toEqual(["dashboard:join"]);
});

test("after a lost connection a room is joined, but what was missed is not recovered", async () => {
  await render(<Room />);
  await pass(10);
  await act(async () => server.cut());
  expect(page.textContent).toBe("wanted");
  await pass(10_000);
  expect(page.textContent).toBe("wanted joined");
});

test("with resume what was missed is recovered, and a gap is not", async () => {
  const streams = new FakeStreams(server);
  client.disconnect();
  client = createClient({ url: "wss://example.test", getToken: () => "t", WebSocket: server.WebSocket, resume });
  await render(<Room client={client} room="chat_room_7" />);
  await pass(50);
  expect(page.textContent).toBe("wanted joined recovered");
  await act(async () => server.cut());
  streams.send("chat_room_7", "news", 1);
  await pass(10_000);
  expect(page.textContent).toBe("wanted joined recovered");
  await act(async () => server.cut());
  streams.keeps = 2;
  for (const number of [2, 3, 4]) streams.send("chat_room_7", "news", number);
  await pass(10_000);
  expect(page.textContent).toBe("wanted joined");
});

test("a handover to another connection changes nothing", async () => {
  const seen = new Set<string>();
  const Seen = () => {
    const { joined, recovered } = useRoom(client, "dashboard");
    seen.add(`${joined} ${recovered}`);
    return null;
  };
  await render(<Seen />);
  await pass(10);
  seen.clear();
  await pass(3 * 60 * 60_000);
  expect(server.attempts.length).toBeGreaterThan(1);
  expect([...seen].filter((state) => state !== "true true")).toEqual([]);
});

test("refused, then granted: joined with the next connection, or when the application asks", async () => {
  server.answer = forbidden;
  await render(<Room room="chat_room_1" />);
  await pass(20);
  expect(page.textContent).toBe("forbidden");
  await act(async () => server.cut());
  await pass(10_000);
  expect(page.textContent).toBe("forbidden");
  server.answer = reply;
  await act(async () => server.cut());
  await pass(10_000);
  expect(page.textContent).toBe("wanted joined recovered");
});

test("a room that the application joins by itself after a refusal is joined for the component too", async () => {
  server.answer = forbidden;
  await render(<Room room="chat_room_1" />);
  await pass(20);
  server.answer = reply;
  await act(async () => void client.join("chat_room_1"));
  await pass(10);
  expect(page.textContent).toBe("wanted joined recovered");
});

test("a grant that is taken away is told, with the reason", async () => {
  await render(<Room room="chat_room_1" />);
  await pass(10);
  server.answer = forbidden;
  await act(async () => server.cut());
  await pass(10_000);
  expect(page.textContent).toBe("forbidden");
});

test("what is not a room is told as an error", async () => {
  server.answer = ({ action, id }) =>
    envelope("rooms:joined", { rooms: [{ success: false, code: "invalid_room", message: action }] }, id);
  await render(<Room room={"general" as Room} />);
  await pass(10);
  expect(page.textContent).toBe("invalid_room");
});

test("without a client nothing happens, and with one the hooks begin", async () => {
  const heard: unknown[] = [];
  const View = ({ own }: { own: Client | null }) => {
    useEvent(own, "a", (data) => heard.push(data));
    return (
      <>
        {useConnectionState(own)} <Room client={own} />
      </>
    );
  };
  await render(<View own={null} />);
  expect(page.textContent).toBe("disconnected ");
  await pass(10);
  await render(<View own={client} />);
  await pass(10);
  expect(page.textContent).toBe("connected wanted joined recovered");
  server.say("a", 1);
  expect(heard).toEqual([1]);
  await render(<View own={null} />);
  await pass(10);
  expect(page.textContent).toBe("disconnected ");
  expect(server.last.actions).toEqual(["dashboard:join", "dashboard:leave"]);
});

test("mount, unmount, mount within a round trip, and rooms 1, 2, 1: joined in the end", async () => {
  server.latency = 50;
  await render(null);
  await pass(200);
  await render(<Room room="chat_room_1" />);
  await pass(10);
  await render(null);
  await render(<Room room="chat_room_1" />);
  await pass(500);
  expect(page.textContent).toBe("wanted joined recovered");
  await render(<Room room="chat_room_2" />);
  await pass(10);
  await render(<Room room="chat_room_1" />);
  await pass(500);
  expect(page.textContent).toBe("wanted joined recovered");
  expect(client.joined).toEqual(["chat_room_1"]);
});

test("a component that is mounted anew, as by a hot reload, keeps the room without a message", async () => {
  await render(<Room key="1" />);
  await pass(10);
  await render(<Room key="2" />);
  await pass(10);
  expect(page.textContent).toBe("wanted joined recovered");
  expect(server.last.actions).toEqual(["dashboard:join"]);
});

test("another client takes over the component's room", async () => {
  await render(<Room />);
  await pass(10);
  const other = createClient({ url: "wss://other.test", getToken: () => "t", WebSocket: server.WebSocket });
  await render(<Room client={other} />);
  await pass(10);
  expect(page.textContent).toBe("wanted joined recovered");
  expect([client.rooms, other.rooms]).toEqual([[], ["dashboard"]]);
  await act(async () => other.disconnect());
});

test("no listener is left when the last component has gone", async () => {
  const on = vi.spyOn(client, "on");
  const ends: ReturnType<typeof vi.fn>[] = [];
  on.mockImplementation(() => {
    const end = vi.fn();
    ends.push(end);
    return end;
  });
  await render([<Room key="1" />, <Room key="2" room="chat_room_1" />]);
  await render(null);
  await pass(10);
  expect(ends.length).toBeGreaterThan(0);
  for (const end of ends) expect(end).toHaveBeenCalledTimes(1);
});

test("useEvent is typed by the client's contract", () => {
  const typed = createClient<{ "order:shipped": { orderId: string } }>({
    url: "",
    getToken: () => "",
    autoConnect: false,
  });
  const View = () => {
    useEvent(typed, "order:shipped", ({ orderId }, envelope) => {
      expectTypeOf(orderId).toEqualTypeOf<string>();
      expectTypeOf(envelope.data).toEqualTypeOf<{ orderId: string }>();
    });
    useEvent(typed, "dashboard:update", ({ type }) => expectTypeOf(type).toEqualTypeOf<string>());
    useEvent(client, "anything", (data) => expectTypeOf(data).toEqualTypeOf<unknown>());
    // @ts-expect-error no such event
    useEvent(typed, "order:shiped", () => {});
    useRoom(typed, "dashboard");
    useConnectionState(typed);
    return null;
  };
  expectTypeOf(View).toBeFunction();
});
