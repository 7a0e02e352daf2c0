/** The types are part of the package: `tsc` reads this file, and each @ts-expect-error has to be one. */
import { expectTypeOf, test } from "vitest";
import { publish, signal } from "../src/publish.ts";
import { resume } from "../src/resume.ts";
import { createClient, type Envelope, type State, type StateChange } from "../src/index.ts";

const options = { url: "wss://example.test", getToken: () => "t", autoConnect: false };

test("the protocol's events and actions are typed without a word", () => {
  const client = createClient(options);
  client.on("dashboard:joined", ({ userRole }) => expectTypeOf(userRole).toEqualTypeOf<"admin" | "user">());
  client.on("client:state", (change) => expectTypeOf(change).toEqualTypeOf<StateChange>());
  client.on("anything", (data) => expectTypeOf(data).toEqualTypeOf<unknown>());
  client.once("error", ({ code }) => expectTypeOf(code).toEqualTypeOf<string>());
  expectTypeOf(client.state).toEqualTypeOf<State>();
  const replies = () => [
    expectTypeOf(client.send("dashboard:refresh")).resolves.toHaveProperty("type"),
    expectTypeOf(client.send("own:action", { any: 1 })).resolves.toEqualTypeOf<unknown>(),
    // @ts-expect-error roomId is missing
    client.send("chat:join_room", {}),
    // @ts-expect-error no such kind of room
    client.join("general"),
  ];
  expectTypeOf(replies).toBeFunction();
});

test("an application's own events and actions are typed beside them, and nothing else is let through", () => {
  interface Events {
    "order:shipped": { orderId: string };
  }
  interface Actions {
    "order:cancel": { data: { orderId: string }; reply: { cancelled: boolean } };
  }
  const client = createClient<Events, Actions>(options);
  client.on("order:shipped", ({ orderId }, envelope) => {
    expectTypeOf(orderId).toEqualTypeOf<string>();
    expectTypeOf(envelope).toEqualTypeOf<Envelope<{ orderId: string }>>();
  });
  client.on("dashboard:update", ({ type }) => expectTypeOf(type).toEqualTypeOf<string>());
  // @ts-expect-error no such event
  client.on("order:shiped", () => {});
  const replies = () => [
    expectTypeOf(client.send("order:cancel", { orderId: "1" })).resolves.toEqualTypeOf<{ cancelled: boolean }>(),
    // @ts-expect-error no such action
    client.send("order:cancle", { orderId: "1" }),
    // @ts-expect-error orderId is a string
    client.send("order:cancel", { orderId: 1 }),
  ];
  expectTypeOf(replies).toBeFunction();
});

test("a contract types rooms, actions, events and what is published", () => {
  interface Contract {
    rooms: `order_${string}` | "dashboard";
    actions: { "order:confirm": { data: { orderId: string; note?: string }; reply: { at: string } } };
    events: { "order:confirmed": { orderId: string } };
    publish: { "order:note": { text: string } };
  }
  const client = createClient<Contract>({ ...options, resume });
  client.on("order:confirmed", ({ orderId }, { from }) => {
    expectTypeOf(orderId).toEqualTypeOf<string>();
    expectTypeOf(from?.id).toEqualTypeOf<string | undefined>();
  });
  // @ts-expect-error no such event
  client.on("order:shipped", () => {});
  const calls = () => [
    client.join("order_5", { since: { epoch: "e", seq: 1 } }),
    client.leave("dashboard"),
    // @ts-expect-error no such room
    client.join("chat_room_1"),
    expectTypeOf(client.send("order:confirm", { orderId: "1" })).resolves.toEqualTypeOf<{ at: string }>(),
    // @ts-expect-error orderId is a string
    client.send("order:confirm", { orderId: 1 }),
    // @ts-expect-error no such action
    client.send("order:cancel", {}),
    publish(client, "order_5", "order:note", { text: "Hi" }),
    // @ts-expect-error text is missing
    publish(client, "order_5", "order:note", {}),
    // @ts-expect-error clients may not publish it
    signal(client, "order_5", "order:confirmed", { orderId: "1" }),
    publish(createClient(options), "chat_room_1", "anything", 1),
  ];
  expectTypeOf(calls).toBeFunction();
});
