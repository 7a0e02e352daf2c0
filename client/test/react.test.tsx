// @vitest-environment happy-dom
import { act, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Client, createClient, type Room } from "../src/index.ts";
import { useConnectionState, useEvent, useRoom } from "../src/react.ts";
import { FakeServer, forbidden } from "./fake-server.ts";

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
    useEvent<number>(client, "a", (data) => heard.push(`${name} ${data}`));
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
