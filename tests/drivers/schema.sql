CREATE TABLE drv_rows (id INT AUTO_INCREMENT PRIMARY KEY, half INT, note VARCHAR(20));
CREATE TABLE drv_loaded (id INT AUTO_INCREMENT PRIMARY KEY, half INT, text VARCHAR(20));
CREATE TABLE drv_many (id INT PRIMARY KEY);
INSERT INTO drv_many VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
CREATE PROCEDURE drv_two_results() BEGIN SELECT 1, 'a'; SELECT 2, 'b'; END;
