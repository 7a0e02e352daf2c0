// Written by `roomcast contract` from the application's declarations: change those, and run it again.

export interface Place {
  epoch: string;
  seq: number;
}

export interface ChatJoined {
  epoch?: string;
  seq?: number;
  history?: Kept;
  members?: number;
  wasRecovering?: boolean;
  recovered?: boolean;
  messages?: Array<unknown>;
  more?: boolean;
  presence?: Present;
  roomId: string;
  success: boolean;
}

export interface Kept {
  seconds: number;
  messages: number;
}

export interface Present {
  version?: number;
  count?: number;
  listed?: boolean;
  users?: Array<Record<string, string>>;
}

export interface ChatLeft {
  roomId: string;
  success: boolean;
}

export interface ChatSent {
  id?: string;
  seq?: number;
  epoch?: string;
  roomId: string;
  success: boolean;
}

export interface DashboardJoined {
  epoch?: string;
  seq?: number;
  history?: Kept;
  members?: number;
  wasRecovering?: boolean;
  recovered?: boolean;
  messages?: Array<unknown>;
  more?: boolean;
  presence?: Present;
  success: boolean;
  userRole: "admin" | "user";
  room: string;
}

export interface DashboardLeft {
  success: boolean;
  room: string;
}

export interface DashboardRefresh {
  type: "admin" | "user";
}

export interface Contract {
  /** The rooms that there are, and what a client may call its own. */
  rooms: "dashboard_admin" | `dashboard_user_${string}` | `chat_room_${string}` | `user_${string}` | "dashboard" | "user";
  /** What each action takes, and what its reply holds. */
  actions: {
    "chat:join_room": { data: { roomId: string; since?: Place | null; position?: boolean }; reply: ChatJoined };
    "chat:leave_room": { data: { roomId: string }; reply: ChatLeft };
    "chat:send_message": { data: { roomId: string; message: unknown }; reply: ChatSent };
    "dashboard:join": { data: { since?: Place | null; position?: boolean }; reply: DashboardJoined };
    "dashboard:leave": { data: Record<string, never>; reply: DashboardLeft };
    "dashboard:refresh": { data: Record<string, never>; reply: DashboardRefresh };
  };
  /** What each event of the server holds. */
  events: {
    "chat:error": { code: string; message: string; [key: string]: unknown };
    "chat:joined_room": ChatJoined;
    "chat:left_room": ChatLeft;
    "chat:message": unknown;
    "chat:sent_message": ChatSent;
    "dashboard:joined": DashboardJoined;
    "dashboard:left": DashboardLeft;
    "dashboard:refresh_data": DashboardRefresh;
    "dashboard:update": unknown;
  };
  /** Of these, what clients may publish too. */
  publish: {
    "chat:message": unknown;
  };
}
