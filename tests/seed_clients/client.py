import time
import asyncio
import json
import base64
import websockets
from typing import Callable, Dict, Any

class ForgeSyteClient:
    def __init__(self, base_url: str = "ws://localhost:8000"):
        self.base_url = base_url
        self.client_id = f"client_{int(time.time())}"
        self.ws = None
        self.handlers = {
            "frame_result": [],
            "error": [],
            "job_update": []
        }

    async def connect(self):
        """Connect to WebSocket server."""
        self.ws = await websockets.connect(
            f"{self.base_url}/ws/{self.client_id}"
        )
        print(f"Connected to ForgeSyte")
        
        # Start listening for messages
        asyncio.create_task(self._listen())

    async def _listen(self):
        """Listen for incoming messages."""
        try:
            async for message in self.ws:
                data = json.loads(message)
                await self._handle_message(data)
        except websockets.exceptions.ConnectionClosed:
            print("Connection closed")

    async def _handle_message(self, message: Dict[str, Any]):
        """Handle incoming message."""
        msg_type = message.get("type")
        if msg_type == "frame_result":
            for handler in self.handlers["frame_result"]:
                await handler(message)
        elif msg_type == "error":
            for handler in self.handlers["error"]:
                await handler(message)
        elif msg_type == "job_update":
            for handler in self.handlers["job_update"]:
                await handler(message)

    async def subscribe(self, topic: str):
        """Subscribe to a topic."""
        await self.ws.send(json.dumps({
            "type": "subscribe",
            "topic": topic
        }))

    async def send_frame(
        self, 
        image_bytes: bytes, 
        plugin: str, 
        options: Dict[str, Any] = None
    ) -> str:
        """Send a frame for analysis."""
        frame_id = f"frame_{int(time.time())}"
        image_base64 = base64.b64encode(image_bytes).decode()
        
        await self.ws.send(json.dumps({
            "type": "send_frame",
            "frame_id": frame_id,
            "image_data": image_base64,
            "plugin": plugin,
            "options": options or {}
        }))
        
        return frame_id

    def on_frame_result(self, handler: Callable):
        """Register frame result handler."""
        self.handlers["frame_result"].append(handler)

    def on_error(self, handler: Callable):
        """Register error handler."""
        self.handlers["error"].append(handler)

    def on_job_update(self, handler: Callable):
        """Register job update handler."""
        self.handlers["job_update"].append(handler)

    async def close(self):
        """Close WebSocket connection."""
        await self.ws.close()

# Usage
async def main():
    client = ForgeSyteClient("ws://localhost:8000")
    await client.connect()
    await client.subscribe("job_123")
    
    async def handle_result(message):
        frame_id = message["frame_id"]
        processing_time = message["processing_time_ms"]
        result = message["result"]
        print(f"Frame {frame_id}: {processing_time}ms")
        print(f"Result: {result}")
    
    client.on_frame_result(handle_result)
    
    # Send frames
    with open("image.png", "rb") as f:
        image_bytes = f.read()
    
    await client.send_frame(image_bytes, "ocr", {"threshold": 0.8})
    
    # Wait for results
    await asyncio.sleep(10)
    
    await client.close()

asyncio.run(main())
