const video = document.getElementById("video");
const canvas = document.createElement("canvas");
const ctx = canvas.getContext("2d");

// Capture frames at 5 FPS
setInterval(() => {
  ctx.drawImage(video, 0, 0);
  const imageData = canvas.toDataURL("image/jpeg", 0.8);
  const bytes = new Uint8Array(atob(imageData.split(",")[1]).split("").map(c => c.charCodeAt(0)));
  
  client.sendFrame(bytes, "motion_detector");
}, 200); // 5 FPS
